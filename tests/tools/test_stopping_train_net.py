"""Training on the command line that is stopped, or has no room left."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.small_models import CONFIGS

TRAIN = CONFIGS.parent / "tools" / "train_net.py"


def start(output: Path, *options: object, limit: Callable[[], None] | None = None) -> subprocess.Popen:
    """Start to train a small classifier, with two loader workers, in a session of its own, as a terminal does."""
    settings = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)", "OUTPUT_DIR", output]
    settings += ["MODEL.BACKBONE.WEIGHTS", "", "MODEL.VGG.DEPTH", 11, "MODEL.VGG.NORM", "BN", "MODEL.VGG.WIDTH", 0.1]
    settings += ["INPUT.SIZES_TRAIN", "(32,)", "INPUT.SIZE_TEST", 32, "DATALOADER.NUM_WORKERS", 2]
    settings += ["SOLVER.IMS_PER_BATCH", 4, "SOLVER.STEPS", "()", "SOLVER.BASE_LR", 0.0001, "MODEL.DEVICE", "cpu"]
    flags = options[:2] if options[0] == "--num-gpus" else ()
    arguments = ["--config-file", CONFIGS / "cls_vgg16.yaml", *flags, *settings, *options[len(flags) :]]
    return subprocess.Popen(
        [sys.executable, TRAIN, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=limit,
    )


@pytest.mark.parametrize(
    ("kind", "send", "processes"),
    [(signal.SIGINT, os.killpg, 1), (signal.SIGTERM, os.kill, 2)],
    ids=["Ctrl-C to all", "SIGTERM to the command, which has two processes"],
)
def test_a_signal_ends_training_with_a_checkpoint(
    kind: signal.Signals, send: Callable, processes: int, tiny_scenes: Path, tmp_path: Path
) -> None:
    endless = ("SOLVER.MAX_ITER", 100_000, "SOLVER.CHECKPOINT_PERIOD", 100_000)
    process = start(tmp_path / "run", "--num-gpus", processes, *endless)
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


def test_a_disk_without_room_for_a_checkpoint_is_one_line(tiny_scenes: Path, tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    process = start(tmp_path / "run", "SOLVER.MAX_ITER", 2, "SOLVER.CHECKPOINT_PERIOD", 1, limit=small_files)
    printed, errors = process.communicate(timeout=250)
    assert process.returncode == 2, printed + errors
    path = tmp_path / "run" / "model_0000000.pth"
    assert errors.splitlines()[-1].startswith(f"error: {path}: ")
    assert "Traceback" not in printed + errors
    assert not list((tmp_path / "run").glob("*.unfinished")) and not list((tmp_path / "run").glob("*.pth"))
