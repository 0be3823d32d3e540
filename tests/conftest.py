"""Fixtures that the tests share."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from mlickd.data.scenes import write_scenes

# What an example takes depends on the machine, and says nothing of what is tested. The examples are always the same, so
# that it is a change that makes a test fail.
settings.register_profile("mlickd", deadline=None, derandomize=True)
settings.load_profile("mlickd")


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """A shell lets commands in the background ignore Ctrl-C, and so would the commands that the tests start."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Where messages go after a command in this process says nothing of the next test, whose own log is pytest's."""
    log = logging.getLogger("mlickd")
    handlers, level, propagate = list(log.handlers), log.level, log.propagate
    yield
    log.handlers, log.propagate = handlers, propagate
    log.setLevel(level)


@pytest.fixture(scope="session")
def tiny_scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Root with a folder dataset `tiny`: 24 train and 12 test scenes of 128 px, 20 classes, with boxes.

    While the fixture is in use, DETECTRON2_DATASETS points at this root, so that `tiny_train` and `tiny_test`
    can be asked for by name.
    """
    root = tmp_path_factory.mktemp("datasets")
    write_scenes(root / "tiny", {"train": 24, "test": 12}, side=128, seed=1, num_workers=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root))
        yield root
