"""The table of bad input: one line, exit status 2, no traceback, nothing half-written.

The table is a page of the documentation, which is written again by

    MLICKD_WRITE_TABLE=1 python -m pytest tests/hostile/test_bad_input.py
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.ground import write_ground
from hostile.bad_input import CASES, Case
from mlickd.__main__ import main

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
INTRODUCTION = """# Bad input

What is wrong with a file, a configuration or a command line is said in one line, which names the file, the field and
what to do. The exit status is 2, and nothing is left half-written. `--debug` puts the traceback above that line. A
traceback without such a line below it is a mistake in this project: please report it.

These are {count} mistakes, which the test `tests/hostile/test_bad_input.py` makes; it also writes this page.
"""
# Kinds of input, in the order of the page.
TITLES = {
    "image": "Images",
    "labels": "Labels of a folder dataset",
    "COCO": "Boxes in COCO format",
    "VOC": "PASCAL VOC",
    "proposals": "Proposals",
    "cache": "Knowledge caches",
    "checkpoint": "Checkpoints",
    "configuration": "Configurations",
    "thresholds": "Thresholds",
    "calibration": "Calibrations",
    "scores": "Scores",
    "manifest": "Manifests",
    "exported": "Exported students",
    "command line": "Command lines",
}
HEADER = "| what is wrong | command and message |\n|---|---|\n"
# Of the cases that were run.
MESSAGES: dict[Case, str] = {}

# Characters of a message.
LONGEST = 400


@pytest.fixture(scope="module")
def ground(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        return write_ground(tmp_path_factory.mktemp("ground"), tiny_scenes, patch)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.of}: {case.what}" for case in CASES])
def test_bad_input(case: Case, ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in case.needs:
        pytest.importorskip(package)
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
    MESSAGES[case] = message.replace(str(folder), ".")
    assert message.startswith("error: ") and case.says in message, said
    assert len(message) <= LONGEST, f"{len(message)} characters: {message}"
    assert said.count("error: ") == 1 + message.removeprefix("error: ").count("error: ") and "Traceback" not in said
    assert not (folder / "ran").exists(), "something in a file was run"
    after = listing(folder)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == set(), "something is left, or changed"


def test_the_table_is_in_the_documentation() -> None:
    """Its messages may quote a library, and differ with its version."""
    if os.environ.get("MLICKD_WRITE_TABLE"):
        PAGE.write_text(f"{INTRODUCTION.format(count=len(CASES))}{''.join(map(section, TITLES))}", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8").splitlines()
    for case in CASES:
        assert any(line.startswith(without_message(case)) for line in page), f"{case.what}: see the top of this file"


def section(of: str) -> str:
    """A heading and the table of one kind of input."""
    return f"\n## {TITLES[of]}\n\n{HEADER}{''.join(row(case) for case in CASES if case.of == of)}"


def row(case: Case) -> str:
    return f"{without_message(case)}{code(MESSAGES[case])} |\n"


def without_message(case: Case) -> str:
    return f"| {case.what} | {code('$ mlickd ' + case.command)}<br>"


def code(text: str) -> str:
    """For a cell of a table in Markdown."""
    fence = "``" if "`" in text else "`"
    space = " " if fence == "``" else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


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
