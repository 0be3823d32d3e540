"""Training and evaluation through their command lines."""

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from detectron2.utils.logger import setup_logger

from helpers.forked_runs import fork, wait_or_kill
from helpers.small_models import CONFIGS
from mlickd.engine.processes import lock_output_dir
from mlickd.files import file_digest
from mlickd.runs import data_record, training_data

DATA = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)"]
SMALL = ["MODEL.BACKBONE.WEIGHTS", "", "MODEL.BACKBONE.FROZEN", "False", "MODEL.BACKBONE.FREEZE_NORM", "False"]
SMALL += ["MODEL.TIMM.NAME", "resnet10t", "DATALOADER.NUM_WORKERS", "0"]
SMALL += ["SOLVER.MAX_ITER", "3", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.WARMUP_ITERS", "1", "SOLVER.BASE_LR", "0.0001"]
SMALL += ["KD.FEATURE.MAX_ITER", "0", "KD.PREDICTION.MAX_ITER", "0"]
SMALL += ["INPUT.SIZES_TRAIN", "(64,)", "INPUT.SIZE_TEST", "64"]


@pytest.fixture(autouse=True)
def removed_handlers() -> Iterator[None]:
    """Remove the handlers of Detectron2's logs after each test, because they write to the output of the test."""
    yield
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore"):
        logging.getLogger(name).handlers.clear()


def arguments(config: str, output: Path, *options: object) -> list[object]:
    """Return the arguments of a small training. Options before the first configuration key are flags."""
    keys = [place for place, option in enumerate(options) if "." in str(option) and str(option).isupper()]
    flags, values = (options[: keys[0]], options[keys[0] :]) if keys else (options, ())
    return ["--config-file", CONFIGS / f"folder/{config}.yaml", *flags, *DATA, *SMALL, "OUTPUT_DIR", output, *values]


def test_all_stages_from_proposals_to_evaluation(tiny_scenes: Path, tmp_path: Path, call_tool: Callable) -> None:
    def train(config: str, output: str, *options: object) -> str:
        result = call_tool("train_net", *arguments(config, tmp_path / output, *options))
        assert result.status == 0, result.err
        return result.out

    made = call_tool("generate_proposals", "--dataset", "tiny_train", "tiny_test", "--set", "max_proposals", 20)
    assert made.status == 0, made.err
    teacher = train("wsd", "teacher")
    weights = tmp_path / "teacher" / "model_final.pth"
    assert teacher.rstrip().endswith(f"KD.TEACHER.WEIGHTS {weights}"), "the next command"
    knowledge = ("KD.TEACHER.WEIGHTS", weights, "KD.FEATURE.WEIGHT", 0.001)
    knowledge += ("KD.METHOD_STAGES", "('feature', 'prediction')")
    train("kd", "distilled", "--kd-stage", "feature", *knowledge)
    assert not (tmp_path / "distilled" / "feature" / "results.json").exists(), "its classifier has not learned yet"
    trained = train("kd", "distilled", "--kd-stage", "prediction", *knowledge)
    run = tmp_path / "distilled" / "prediction"
    assert f"Starting from MODEL.WEIGHTS {tmp_path / 'distilled' / 'feature' / 'student.pth'}" in trained
    assert trained.rstrip().endswith(f"mlickd predict PHOTOS --model {run}")
    assert (run / "classes.txt").read_text() == (tiny_scenes / "tiny/classes.txt").read_text()
    assert training_data(run) == [{**data_record("tiny_train"), "labeled": True, "unknown_labels": 0}]

    results = json.loads((tmp_path / "teacher" / "results.json").read_text())
    assert {"AP50", "VOC_AP", "CorLoc"} <= results["detection"].keys() and "mAP" in results["multilabel"]
    report = json.loads((tmp_path / "teacher" / "inference" / "tiny_test" / "multilabel_results.json").read_text())
    assert report["config"]["sha256"] == file_digest(tmp_path / "teacher" / "config.yaml")
    assert report["data"]["name"] == "tiny_test" and report["data"]["images"] == 12

    views = ("TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(48, 64)")
    train("wsd", "teacher", "--eval-only", *views)
    evaluation = tmp_path / "teacher" / "evaluation"
    assert json.loads((evaluation / "results.json").read_text()) == results
    assert "mAP" in json.loads((evaluation / "results_TTA.json").read_text())["multilabel_TTA"]

    # The student is evaluated in the configuration of the distillation, and as the plain classifier.
    logged = json.loads((run / "results.json").read_text())
    train("kd", "distilled", "--eval-only", "--kd-stage", "prediction")
    assert json.loads((run / "evaluation" / "results.json").read_text()) == logged
    train("cls", "plain", "--eval-only", "MODEL.WEIGHTS", run / "student.pth")
    assert json.loads((tmp_path / "plain" / "evaluation" / "results.json").read_text()) == logged


def command(output: Path, *options: object, torchrun: Sequence[object] = ()) -> list[str]:
    """Return the command line of a small training."""
    start = [sys.executable, CONFIGS.parent / "tools" / "train_net.py"]
    if torchrun:  # as in the help of `mlickd train`
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", *torchrun, "-m", "mlickd", "train"]
    return [*map(str, [*start, *arguments("cls", output, *options)])]


@pytest.fixture
def cpu(tiny_scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_torchrun_and_two_machines_train_as_two_processes_do(cpu: None, tmp_path: Path) -> None:
    subprocess.run(command(tmp_path / "gpus", "--num-gpus", 2), check=True, timeout=240)
    subprocess.run(command(tmp_path / "torchrun", torchrun=["--nproc_per_node", 2]), check=True, timeout=240)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    machines = ["--num-machines", 2, "--dist-url", f"tcp://127.0.0.1:{port}", "--machine-rank"]
    launched = [subprocess.Popen(command(tmp_path / "machines", *machines, rank)) for rank in (1, 0)]
    assert [process.wait(timeout=240) for process in launched] == [0, 0]
    folders = {path.name: path / "model_final.pth" for path in tmp_path.iterdir()}
    weights = {name: torch.load(path, weights_only=True)["model"] for name, path in folders.items()}
    assert weights.keys() == {"gpus", "torchrun", "machines"}
    for state in weights.values():
        assert all(torch.equal(value, weights["gpus"][key]) for key, value in state.items())


@pytest.mark.slow
def test_every_start_method_of_workers_trains_the_same_network(cpu: None, tmp_path: Path) -> None:
    code = "import multiprocessing, sys\nfrom mlickd.__main__ import main\nif __name__ == '__main__':\n"
    code += "    multiprocessing.set_start_method(sys.argv.pop(1))\n    main()\n"
    (tmp_path / "start.py").write_text(code)
    for method in ("fork", "forkserver", "spawn"):
        line = command(tmp_path / method, "SEED", 1, "DATALOADER.NUM_WORKERS", 2)
        line[1:2] = [str(tmp_path / "start.py"), method, "train"]
        subprocess.run(line, check=True, capture_output=True, timeout=240)  # also waits for the workers
    networks = [torch.load(path, weights_only=True)["model"] for path in tmp_path.glob("*/model_final.pth")]
    assert all(torch.equal(state[key], networks[2][key]) for state in networks[:2] for key in state)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for the processes of torchrun")
def test_torchrun_starts_again_from_the_last_checkpoint(cpu: None, tmp_path: Path) -> None:
    options = ["--resume", "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.MAX_ITER", 60]
    torchrun = ["--nproc_per_node", 2, "--max-restarts", 1]
    with subprocess.Popen(command(tmp_path / "run", *options, torchrun=torchrun)) as launched:
        while launched.poll() is None and not (tmp_path / "run" / "last_checkpoint").exists():
            time.sleep(0.1)
        children = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert launched.wait(timeout=240) == 0
    starts = re.findall(r"Starting training from iteration (\d+)", (tmp_path / "run" / "log.txt").read_text())
    assert len(starts) == 2 and 0 == int(starts[0]) < int(starts[1])
    assert (tmp_path / "run" / "model_final.pth").is_file()


@pytest.mark.parametrize(
    ("kind", "send", "processes"),
    [(signal.SIGHUP, os.killpg, 1), (signal.SIGTERM, os.kill, 2)],
    ids=["the terminal is closed", "SIGTERM to the command, which has two processes"],
)
def test_a_signal_ends_training_with_a_checkpoint(
    kind, send: Callable, processes: int, cpu: None, tmp_path: Path
) -> None:
    endless = ("SOLVER.MAX_ITER", 100_000, "SOLVER.CHECKPOINT_PERIOD", 100_000, "DATALOADER.NUM_WORKERS", 2)
    line = command(tmp_path / "run", "--num-gpus", processes, *endless)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(line, **pipes, start_new_session=True)  # like a terminal
    metrics = tmp_path / "run" / "metrics.json"
    deadline = time.monotonic() + 200
    while not (metrics.exists() and metrics.read_text()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    send(process.pid, kind)
    try:
        printed, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 128 + kind, printed + errors
    assert "Traceback" not in printed + errors
    stopped = [line for line in printed.splitlines() if "Stopped by" in line]
    last = (tmp_path / "run" / "last_checkpoint").read_text()
    assert len(stopped) == 1 and kind.name in stopped[0] and stopped[0].endswith(last)
    assert (tmp_path / "run" / last).exists()
    with pytest.raises(ProcessLookupError):  # no process is left behind
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)


def test_a_second_run_in_the_same_folder_is_refused(tiny_scenes: Path, tmp_path: Path, call_tool: Callable) -> None:
    def lock() -> None:
        lock_output_dir(str(tmp_path / "run"))
        os.fork()  # a worker, which outlives the run
        time.sleep(60)

    process = fork(lock, tmp_path / "log")
    while not (tmp_path / "run" / ".lock").exists():
        time.sleep(0.02)
    call_tool("train_net", *arguments("cls", tmp_path / "run")).assert_ends_in_one_line("OUTPUT_DIR")
    assert os.listdir(tmp_path / "run") == [".lock"]
    assert wait_or_kill(process, 0) == -signal.SIGKILL
    assert call_tool("train_net", *arguments("cls", tmp_path / "run", "--resume")).status == 0
    assert wait_or_kill(fork(lambda: lock_output_dir(str(tmp_path / "run")), tmp_path / "log")) == 0, "a run unlocks it"


def test_a_diverged_run_keeps_its_last_checkpoint(tiny_scenes: Path, tmp_path: Path, call_tool: Callable) -> None:
    options = ["SOLVER.OPTIMIZER", "SGD", "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.BASE_LR", 1e30]
    result = call_tool("train_net", *arguments("cls", tmp_path, *options, "SOLVER.WARMUP_ITERS", 0))
    result.assert_ends_in_one_line("for images")
    line = result.err.splitlines()[-1]
    found = re.match(r"error: iteration ([12]): .* for images ", line)
    assert found, line
    assert "Traceback" not in result.out + result.err
    assert line.removeprefix("error: ") in (tmp_path / "log.txt").read_text()
    last = f"model_{int(found[1]) - 1:07}.pth"
    assert (tmp_path / "last_checkpoint").read_text() == last
    model = torch.load(tmp_path / last, weights_only=True)["model"]
    assert all(value.isfinite().all() for value in model.values())
    assert not (tmp_path / "results.json").exists()


def test_a_broken_image_in_training_is_named(tiny_scenes: Path, tmp_path: Path, call_tool, monkeypatch) -> None:
    shutil.copytree(tiny_scenes / "tiny", tmp_path / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for path in (tmp_path / "tiny" / "images").glob("train*"):
        path.write_bytes(path.read_bytes()[:-200])
    result = call_tool("train_net", *arguments("cls", tmp_path / "run", "DATALOADER.NUM_WORKERS", 1))
    result.assert_ends_in_one_line(str(tmp_path / "tiny" / "images" / "train_"))
