"""The table of bad input: one line, exit status 2, no traceback, nothing half-written."""

from __future__ import annotations

import contextlib
import io
import logging
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.ground import write_ground
from hostile.bad_input import CASES, Case
from mlickd.__main__ import main


@pytest.fixture(scope="module")
def ground(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        return write_ground(tmp_path_factory.mktemp("ground"), tiny_scenes, patch)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.of}: {case.what}" for case in CASES])
def test_bad_input(case: Case, ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property) -> None:
    folder = tmp_path / "ground"
    shutil.copytree(ground, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(folder / "datasets"))
    monkeypatch.setenv("MLICKD_DEBUG", "")
    if case.damage is not None:
        case.damage()
    before = listing(folder)
    monkeypatch.setattr("sys.argv", ["mlickd", *shlex.split(case.command)])
    printed, errors = io.StringIO(), io.StringIO()
    with own_logging(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        with pytest.raises(SystemExit) as end:
            main()
    said = errors.getvalue()
    assert end.value.code == 2, said
    message = said.splitlines()[-1].replace(f"{folder}/", "")
    record_property("message", message)
    assert message.startswith("error: ") and case.says in message, said
    assert said.count("error: ") == 1 + message.removeprefix("error: ").count("error: ") and "Traceback" not in said
    assert not (folder / "ran").exists(), "something in a file was run"
    after = listing(folder)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert {path for path in changed if path.split("/")[0] not in case.leaves} == set()


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of all files, and the folders; by path."""
    found = {}
    for path in folder.rglob("*"):
        state = path.stat()
        found[path.relative_to(folder).as_posix()] = (state.st_size, state.st_mtime_ns) if path.is_file() else (0, 0)
    return found


@contextlib.contextmanager
def own_logging() -> Iterator[None]:
    """A command sets up the loggers of its process, which is this one."""
    loggers = [logging.getLogger(name) for name in (None, "mlickd", "detectron2", "fvcore", "d2")]
    states = [(logger, logger.level, logger.propagate, logger.handlers[:]) for logger in loggers]
    try:
        yield
    finally:
        for logger, level, propagate, handlers in states:
            logger.setLevel(level)
            logger.propagate, logger.handlers[:] = propagate, handlers
