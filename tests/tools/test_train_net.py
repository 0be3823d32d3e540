"""The whole method through its command lines, as a user types them."""

from __future__ import annotations

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
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from detectron2.utils.logger import setup_logger

from helpers.small_models import CONFIGS
from mlickd.files import file_digest

TRAIN = CONFIGS.parent / "tools" / "train_net.py"
DATA = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)"]
SMALL = ["MODEL.BACKBONE.WEIGHTS", "", "MODEL.BACKBONE.FROZEN", "False", "MODEL.BACKBONE.FREEZE_NORM", "False"]
SMALL += ["MODEL.TIMM.NAME", "resnet10t", "MODEL.TIMM.OUTPUT_STRIDE", "32", "DATALOADER.NUM_WORKERS", "0"]
SMALL += ["SOLVER.MAX_ITER", "3", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.WARMUP_ITERS", "1", "SOLVER.BASE_LR", "0.0001"]
SMALL += ["KD.FEATURE.MAX_ITER", "0", "KD.PREDICTION.MAX_ITER", "0"]
SMALL += ["INPUT.SIZES_TRAIN", "(64,)", "INPUT.SIZE_TEST", "64"]


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Remove the handlers of Detectron2's logs after each test, whose output they have."""
    yield
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore"):
        logging.getLogger(name).handlers.clear()


@pytest.fixture
def train(call_tool: Callable, tiny_scenes: Path) -> Callable[..., str]:
    """``train(config, *options)`` trains a small model; what it prints."""

    def call(config: str, *options: object) -> str:
        flags = [option for option in options if str(option).startswith("--")]
        values = options[len(flags) + flags.count("--kd-stage") :]
        flags = options[: len(options) - len(values)]
        arguments = ["--config-file", CONFIGS / f"folder/{config}.yaml", *flags, *DATA, *SMALL, *values]
        result = call_tool("train_net", *arguments)
        assert result.status == 0, result.err
        return result.out

    return call


def test_all_stages_from_proposals_to_evaluation(
    tiny_scenes: Path, tmp_path: Path, call_tool: Callable, train: Callable[..., str]
) -> None:
    made = call_tool("generate_proposals", "--dataset", "tiny_train", "tiny_test", "--max-proposals", 20)
    assert made.status == 0, made.err
    teacher = train("wsd", "OUTPUT_DIR", tmp_path / "teacher")
    weights = tmp_path / "teacher" / "model_final.pth"
    assert f"--kd-stage feature KD.TEACHER.WEIGHTS {weights} " in teacher
    knowledge = ("KD.TEACHER.WEIGHTS", weights, "KD.FEATURE.WEIGHT", 0.001, "OUTPUT_DIR", tmp_path / "distilled")
    train("kd", "--kd-stage", "feature", *knowledge)
    assert not (tmp_path / "distilled" / "feature" / "results.json").exists(), "its classifier has not learned yet"
    trained = train("kd", "--kd-stage", "prediction", *knowledge)
    run = tmp_path / "distilled" / "prediction"
    assert f"Starting from MODEL.WEIGHTS {tmp_path / 'distilled' / 'feature' / 'student.pth'}" in trained
    assert trained.rstrip().endswith(f"python tools/predict.py PHOTOS --model {run}")
    assert (run / "classes.txt").read_text() == (tiny_scenes / "tiny/classes.txt").read_text()

    results = json.loads((tmp_path / "teacher" / "results.json").read_text())
    assert {"AP50", "VOC_AP", "CorLoc"} <= results["detection"].keys() and "mAP" in results["multilabel"]
    report = json.loads((tmp_path / "teacher" / "inference" / "tiny_test" / "multilabel_results.json").read_text())
    assert report["config"]["sha256"] == file_digest(tmp_path / "teacher" / "config.yaml")
    assert report["data"]["name"] == "tiny_test" and report["data"]["images"] == 12

    views = ("TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(48, 64)")
    train("wsd", "--eval-only", "OUTPUT_DIR", tmp_path / "teacher", *views)
    evaluation = tmp_path / "teacher" / "evaluation"
    assert json.loads((evaluation / "results.json").read_text()) == results
    assert "mAP" in json.loads((evaluation / "results_TTA.json").read_text())["multilabel_TTA"]

    # The student is evaluated in the configuration of the distillation, and as the plain classifier.
    logged = json.loads((run / "results.json").read_text())
    train("kd", "--eval-only", "--kd-stage", "prediction", "OUTPUT_DIR", tmp_path / "distilled")
    assert json.loads((run / "evaluation" / "results.json").read_text()) == logged
    train("cls", "--eval-only", "OUTPUT_DIR", tmp_path / "plain", "MODEL.WEIGHTS", run / "student.pth")
    assert json.loads((tmp_path / "plain" / "evaluation" / "results.json").read_text()) == logged


def train_together(output: Path, *arguments: object) -> list[str]:
    """The command of a small training, with further arguments, without the Python in front."""
    options = ["--config-file", CONFIGS / "folder/cls.yaml", *arguments, *DATA, *SMALL, "OUTPUT_DIR", output]
    return [str(TRAIN), *map(str, options)]


@pytest.mark.slow
def test_torchrun_and_two_machines_train_as_two_processes_do(
    tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    python, torchrun = [sys.executable], [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run([*python, *train_together(tmp_path / "gpus", "--num-gpus", 2)], check=True, timeout=240)
    command = [*torchrun, "--nproc_per_node", "2", *train_together(tmp_path / "torchrun")]
    subprocess.run(command, check=True, timeout=240)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    machines = ["--num-machines", 2, "--dist-url", f"tcp://127.0.0.1:{port}", "--machine-rank"]
    commands = [[*python, *train_together(tmp_path / "machines", *machines, rank)] for rank in (1, 0)]
    launched = [subprocess.Popen(command) for command in commands]
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
    with subprocess.Popen(command) as launched:
        while launched.poll() is None and not (tmp_path / "run" / "last_checkpoint").exists():
            time.sleep(0.1)
        children = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert launched.wait(timeout=240) == 0
    starts = re.findall(r"Starting training from iteration (\d+)", (tmp_path / "run" / "log.txt").read_text())
    assert len(starts) == 2 and 0 == int(starts[0]) < int(starts[1])
    assert (tmp_path / "run" / "model_final.pth").is_file()


def test_a_run_that_diverges_ends_with_one_line_its_batch_and_its_last_good_checkpoint(
    tiny_scenes: Path, tmp_path: Path, call_tool: Callable
) -> None:
    result = call_tool(
        "train_net", "--config-file", CONFIGS / "folder/cls.yaml", *DATA, *SMALL, "SOLVER.OPTIMIZER", "SGD",
        "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.BASE_LR", 1e30, "SOLVER.WARMUP_ITERS", 0, "OUTPUT_DIR", tmp_path,
    )  # fmt: skip
    result.assert_ends_in_one_line("for images")
    line = result.err.splitlines()[-1]
    found = re.match(r"error: iteration ([12]): .* for images .* \(saved in (.*/bad_batch\.pt)\); ", line)
    assert found, line
    assert "Traceback" not in result.out + result.err
    assert line.removeprefix("error: ") in (tmp_path / "log.txt").read_text()
    batch = torch.load(found[2], weights_only=True)
    assert len(batch["images"]) == 4 and {"image", "labels", "image_id"} <= batch["images"][0].keys()
    last = f"model_{int(found[1]) - 1:07}.pth"
    assert (tmp_path / "last_checkpoint").read_text() == last
    model = torch.load(tmp_path / last, weights_only=True)["model"]
    assert all(value.isfinite().all() for value in model.values())
    assert not (tmp_path / "results.json").exists()


def test_an_image_that_turns_out_broken_in_training_is_named(
    tiny_scenes: Path, tmp_path: Path, call_tool: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_scenes / "tiny", tmp_path / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for path in (tmp_path / "tiny" / "images").glob("train*"):
        path.write_bytes(path.read_bytes()[:-200])
    options = ["--config-file", CONFIGS / "folder/cls.yaml", *DATA, *SMALL, "OUTPUT_DIR", tmp_path / "run"]
    result = call_tool("train_net", *options, "DATALOADER.NUM_WORKERS", 1)
    result.assert_ends_in_one_line(str(tmp_path / "tiny" / "images" / "train_"))


def test_help_shows_stages_and_examples(call_tool: Callable) -> None:
    result = call_tool("train_net", "--config-file", "configs/wsd_vgg16.yaml", "--help")
    assert result.status == 0
    assert "--kd-stage" in result.out and "configs/kd_vgg16.yaml --kd-stage feature" in result.out
