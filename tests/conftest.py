"""Shared fixtures."""

import logging
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from helpers.cached_scenes import CachedScenes, write_random_boxes
from mlickd.data import proposals_path
from mlickd.data.scenes import write_scenes

# Examples are the same in every run, and have no time limit, because their time depends on the machine.
settings.register_profile("mlickd", deadline=None, derandomize=True)
settings.load_profile("mlickd")
# Some tests fork. A fork of a process that has used several threads of OpenMP hangs in its next parallel region.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def default_signals() -> Iterator[None]:
    """Handle Ctrl-C and SIGHUP even if the tests run in the background of a shell or under nohup, which ignore them."""
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGHUP)}
    for kind, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if before[kind] == signal.SIG_IGN:
            signal.signal(kind, default)
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


@pytest.fixture(autouse=True)
def restored_log() -> Iterator[None]:
    """Restore the logs after a command in this process has configured them."""
    log, evaluation = logging.getLogger("mlickd"), logging.getLogger("mlickd.evaluation")
    handlers, levels, propagate = list(log.handlers), (log.level, evaluation.level), log.propagate
    yield
    log.handlers, log.propagate = handlers, propagate
    log.setLevel(levels[0])
    evaluation.setLevel(levels[1])


@pytest.fixture(scope="session")
def tiny_scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Register the datasets `tiny_train` and `tiny_test` with 24 and 12 scenes of 128 px, 20 classes and boxes.

    The fixture sets DETECTRON2_DATASETS to a folder, and returns this folder.
    """
    root = tmp_path_factory.mktemp("datasets")
    write_scenes(root / "tiny", {"train": 24, "test": 12}, side=128, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root))
        yield root


@pytest.fixture(scope="session")
def scenes(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> CachedScenes:
    return CachedScenes.create(tmp_path_factory.mktemp("scenes"))


@pytest.fixture
def without_proposals(tiny_scenes: Path) -> None:
    """Remove proposals of the tiny datasets from other modules."""
    shutil.rmtree(tiny_scenes / "proposals", ignore_errors=True)


@pytest.fixture(scope="module")
def tiny_proposals(tiny_scenes: Path) -> None:
    """Write random proposals of the tiny datasets to their default paths, over proposals from other modules."""
    for name in ("tiny_train", "tiny_test"):
        write_random_boxes(proposals_path(name, "edge_boxes"), name, seed=1)
