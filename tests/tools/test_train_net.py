"""The whole method through its command lines, as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mlickd.files import file_digest

ROOT = Path(__file__).parents[2]
DATA = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)"]
SMALL = ["MODEL.BACKBONE.WEIGHTS", "", "MODEL.BACKBONE.FROZEN", "False", "MODEL.BACKBONE.FREEZE_NORM", "False"]
SMALL += ["MODEL.TIMM.NAME", "resnet10t", "MODEL.TIMM.OUTPUT_STRIDE", "32", "DATALOADER.NUM_WORKERS", "0"]
SMALL += ["SOLVER.MAX_ITER", "3", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.WARMUP_ITERS", "1", "SOLVER.BASE_LR", "0.0001"]
SMALL += ["KD.FEATURE.MAX_ITER", "0", "KD.PREDICTION.MAX_ITER", "0"]
SMALL += ["INPUT.SIZES_TRAIN", "(64,)", "INPUT.SIZE_TEST", "64"]


def run_tool(name: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / name, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def train(config: str, output: Path, *options: object, stage: str | None = None) -> subprocess.CompletedProcess:
    stages = ["--kd-stage", stage] if stage else []
    arguments = ["--config-file", f"configs/folder/{config}.yaml", *stages, *DATA, *SMALL, "OUTPUT_DIR", output]
    result = run_tool("train_net.py", *arguments, *options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def test_all_stages_from_proposals_to_evaluation(tiny_scenes: Path, tmp_path: Path) -> None:
    made = run_tool("generate_proposals.py", "--dataset", "tiny_train", "tiny_test", "--max-proposals", 20)
    assert made.returncode == 0, made.stderr
    teacher = train("wsd", tmp_path / "teacher").stdout
    weights = tmp_path / "teacher" / "model_final.pth"
    assert f"--config-file configs/folder/kd.yaml --kd-stage feature KD.TEACHER.WEIGHTS {weights} " in teacher
    knowledge = ("KD.TEACHER.WEIGHTS", weights, "KD.FEATURE.WEIGHT", 0.001)
    train("kd", tmp_path / "distilled", *knowledge, stage="feature")
    assert not (tmp_path / "distilled" / "feature" / "results.json").exists(), "its classifier has not learned yet"
    trained = train("kd", tmp_path / "distilled", *knowledge, stage="prediction")
    assert f"Starting from MODEL.WEIGHTS {tmp_path / 'distilled' / 'feature' / 'student.pth'}" in trained.stdout
    predict = f"python tools/predict.py PHOTOS --model {tmp_path / 'distilled' / 'prediction'}"
    assert trained.stdout.rstrip().endswith(predict)
    assert (tmp_path / "distilled/prediction/classes.txt").read_text() == (tiny_scenes / "tiny/classes.txt").read_text()

    results = json.loads((tmp_path / "teacher" / "results.json").read_text())
    assert {"AP50", "VOC_AP", "CorLoc"} <= results["detection"].keys() and "mAP" in results["multilabel"]
    report = json.loads((tmp_path / "teacher" / "inference" / "tiny_test" / "multilabel_results.json").read_text())
    assert report["config"]["sha256"] == file_digest(tmp_path / "teacher" / "config.yaml")
    assert report["data"]["name"] == "tiny_test" and report["data"]["images"] == 12

    averaged = run_tool(
        "train_net.py", "--config-file", "configs/folder/wsd.yaml", "--eval-only", *DATA, *SMALL,
        "OUTPUT_DIR", tmp_path / "teacher", "TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(48, 64)",
    )  # fmt: skip
    assert averaged.returncode == 0, averaged.stderr
    evaluation = tmp_path / "teacher" / "evaluation"
    assert json.loads((evaluation / "results.json").read_text()) == results
    assert "mAP" in json.loads((evaluation / "results_TTA.json").read_text())["multilabel_TTA"]

    # Only the student is evaluated, with the configuration of the distilled run and as the plain classifier.
    logged = json.loads((tmp_path / "distilled" / "prediction" / "results.json").read_text())
    arguments = ["--eval-only", *DATA, *SMALL, "OUTPUT_DIR"]
    again = run_tool(
        "train_net.py", "--config-file", "configs/folder/kd.yaml", "--kd-stage", "prediction", *arguments,
        tmp_path / "distilled",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    evaluated = json.loads((tmp_path / "distilled" / "prediction" / "evaluation" / "results.json").read_text())
    assert evaluated == logged
    student = tmp_path / "distilled" / "prediction" / "student.pth"
    plain = run_tool(
        "train_net.py", "--config-file", "configs/folder/cls.yaml", *arguments, tmp_path / "plain",
        "MODEL.WEIGHTS", student,
    )  # fmt: skip
    assert plain.returncode == 0, plain.stderr
    assert json.loads((tmp_path / "plain" / "evaluation" / "results.json").read_text()) == logged


def train_together(output: Path, *arguments: object) -> list[str]:
    """Return `tools/train_net.py` with the arguments of a small training, for a launcher."""
    options = ["--config-file", "configs/folder/cls.yaml", *arguments, *DATA, *SMALL, "OUTPUT_DIR", output]
    return [str(ROOT / "tools" / "train_net.py"), *map(str, options)]


@pytest.mark.slow
def test_torchrun_and_two_machines_train_as_two_processes_do(
    tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    python, torchrun = [sys.executable], [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run([*python, *train_together(tmp_path / "gpus", "--num-gpus", 2)], cwd=ROOT, check=True, timeout=240)
    command = [*torchrun, "--nproc_per_node", "2", *train_together(tmp_path / "torchrun")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=240)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    machines = ["--num-machines", 2, "--dist-url", f"tcp://127.0.0.1:{port}", "--machine-rank"]
    commands = [[*python, *train_together(tmp_path / "machines", *machines, rank)] for rank in (1, 0)]
    launched = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    assert [process.wait(timeout=240) for process in launched] == [0, 0]

    weights = {
        path.name: torch.load(path / "model_final.pth", weights_only=True)["model"] for path in tmp_path.iterdir()
    }
    assert weights.keys() == {"gpus", "torchrun", "machines"}
    for left in weights.values():
        assert all(torch.equal(value, weights["gpus"][key]) for key, value in left.items())


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="asks Linux for the processes that torchrun has started"
)
def test_torchrun_starts_again_from_the_last_checkpoint(
    tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    options = ["SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.MAX_ITER", "60"]
    command = [*torchrun, "--max-restarts", "1", *train_together(tmp_path / "run", "--resume"), *options]
    with subprocess.Popen(command, cwd=ROOT) as launched:
        while launched.poll() is None and not (tmp_path / "run" / "last_checkpoint").exists():
            time.sleep(0.1)
        children = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert launched.wait(timeout=240) == 0
    starts = re.findall(r"Starting training from iteration (\d+)", (tmp_path / "run" / "log.txt").read_text())
    assert len(starts) == 2 and 0 == int(starts[0]) < int(starts[1])
    assert (tmp_path / "run" / "model_final.pth").is_file()


@pytest.mark.slow
def test_two_processes_train_a_map_that_is_not_the_last(
    tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stage 1 compares stage4 of five stages: the last one gets no gradients, which processes have to agree on."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    made = run_tool("generate_proposals.py", "--dataset", "tiny_train", "tiny_test", "--max-proposals", 20)
    assert made.returncode == 0, made.stderr
    train("wsd", tmp_path / "teacher")
    knowledge = ["KD.TEACHER.WEIGHTS", tmp_path / "teacher" / "model_final.pth", "KD.FEATURE.WEIGHT", 0.001]
    result = run_tool(
        "train_net.py", "--config-file", "configs/folder/kd.yaml", "--num-gpus", 2, "--kd-stage", "feature",
        *DATA, *SMALL, *knowledge, "OUTPUT_DIR", tmp_path / "distilled",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "distilled" / "feature" / "student.pth").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "nowhere.yaml"], "error: --config-file nowhere.yaml: no such file"),
        (["--config-file", "configs/folder/kd.yaml", "--kd-stage", "both", *DATA], "error: --kd-stage both"),
        (
            ["--config-file", "configs/folder/cls.yaml", *DATA[:1], "('no_train',)", *DATA[2:]],
            "error: unknown dataset",
        ),
        (
            ["--config-file", "configs/folder/cls.yaml", "--num-gpus", "2", *DATA, "SOLVER.IMS_PER_BATCH", "5"],
            "error: SOLVER.IMS_PER_BATCH 5",
        ),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(tiny_scenes: Path, arguments: list[str], message: str) -> None:
    result = run_tool("train_net.py", *arguments)
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert line.startswith(message)
    assert "Traceback" not in result.stdout + result.stderr


def test_a_run_that_diverges_ends_with_one_line_its_batch_and_its_last_good_checkpoint(
    tiny_scenes: Path, tmp_path: Path
) -> None:
    result = run_tool(
        "train_net.py", "--config-file", "configs/folder/cls.yaml", *DATA, *SMALL, "SOLVER.OPTIMIZER", "SGD",
        "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.BASE_LR", 1e30, "SOLVER.WARMUP_ITERS", 0, "OUTPUT_DIR", tmp_path,
    )  # fmt: skip
    assert result.returncode == 2, result.stdout + result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    found = re.match(r"error: iteration ([12]): .* for images .* \(saved in (.*/bad_batch\.pt)\); parameters", line)
    assert found, line
    assert "Traceback" not in result.stdout + result.stderr
    assert line.removeprefix("error: ") in (tmp_path / "log.txt").read_text()
    batch = torch.load(found[2], weights_only=True)
    assert len(batch["images"]) == 4 and {"image", "labels", "image_id"} <= batch["images"][0].keys()
    last = f"model_{int(found[1]) - 1:07}.pth"
    assert (tmp_path / "last_checkpoint").read_text() == last
    model = torch.load(tmp_path / last, weights_only=True)["model"]
    assert all(value.isfinite().all() for value in model.values())
    assert not (tmp_path / "results.json").exists()


def test_help_shows_stages_and_examples() -> None:
    result = run_tool("train_net.py", "--config-file", "configs/wsd_vgg16.yaml", "--help")
    assert result.returncode == 0
    assert "--kd-stage" in result.stdout and "configs/kd_vgg16.yaml --kd-stage feature" in result.stdout
    assert not result.stderr  # no warnings of the libraries
