from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlickd.benchmarks.comparison import Comparison, Row, Target
from mlickd.benchmarks.report import Report, number, table, write_reports
from mlickd.errors import InputError


@pytest.fixture
def report() -> Report:
    rows = [Row("plain", [1.0, 3.0]), Row("cache", [2.0, 6.0]), Row("live", [20.0, 60.0], {"memory": "3 MB"})]
    targets = [Target("cache", "plain", 1.5), Target("live", "cache", 5, at_least=True)]
    return Report("step", "python tools/benchmark.py step", 2, [Comparison("VGG16", "s", rows, targets)], 12.0)


def test_the_table_says_what_of_what(report: Report) -> None:
    lines = table([report, report], "pipe").splitlines()
    assert len(lines) == 2 + 2 * 3
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[2] == ["step", "VGG16: plain", "2.00 s", "1.00 to 3.00", "1.00", "", ""]
    assert cells[3] == ["step", "VGG16: cache", "4.00 s", "2.00 to 6.00", "2.00", "at most 1.5, missed", ""]
    assert cells[4][4:] == ["20.0", "at least 5 of cache: 10.0, met", "memory 3 MB"]


def test_files_have_the_machine_the_command_and_the_figures(report: Report, tmp_path: Path) -> None:
    write_reports([report], tmp_path / "new", "step")
    content = json.loads((tmp_path / "new/step.json").read_text())
    assert content["command"] == report.command and content["threads"] == 2 and "cores" in content["machine"]
    assert content["comparisons"][0]["rows"][1]["values"] == [2.0, 6.0]
    text = (tmp_path / "new/step.md").read_text()
    assert report.command in text and "threads: 2" in text and table([report], "pipe") in text


def test_one_file_for_several(report: Report, tmp_path: Path) -> None:
    write_reports([report, report], tmp_path, "all")
    assert len(json.loads((tmp_path / "all.json").read_text())["benchmarks"]) == 2


def test_a_place_that_cannot_be_written_is_an_error(report: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_reports([report], tmp_path / "file", "step")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.012345, "0.0123"), (1.0, "1.00"), (12.345, "12.3"), (123.45, "123"), (12345.6, "12,346")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text
