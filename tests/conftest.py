"""Shared fixtures."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from mlickd.data.scenes import write_scenes

# The time of an example depends on the machine, so it has no limit. The examples are always the same.
settings.register_profile("mlickd", deadline=None, derandomize=True)
settings.load_profile("mlickd")


@pytest.fixture(scope="session", autouse=True)
def default_ctrl_c() -> Iterator[None]:
    """Handle Ctrl-C: commands that a shell runs in the background ignore it, and so would the commands of the tests."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def restored_log() -> Iterator[None]:
    """Restore the log after a command in this process has configured it."""
    log = logging.getLogger("mlickd")
    handlers, level, propagate = list(log.handlers), log.level, log.propagate
    yield
    log.handlers, log.propagate = handlers, propagate
    log.setLevel(level)


@pytest.fixture(scope="session")
def tiny_scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Root with a folder dataset `tiny`: 24 train and 12 test scenes of 128 px, 20 classes, with boxes.

    DETECTRON2_DATASETS is this root, so `tiny_train` and `tiny_test` are registered datasets.
    """
    root = tmp_path_factory.mktemp("datasets")
    write_scenes(root / "tiny", {"train": 24, "test": 12}, side=128, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root))
        yield root
