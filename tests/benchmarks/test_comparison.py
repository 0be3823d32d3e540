from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mlickd.benchmarks.comparison import Comparison, Row, Target
from mlickd.benchmarks.report import Report, table, write_reports

PLAIN, OURS = Row("plain", [2.0, 4.0, 10.0]), Row("ours", [1.0, 3.0, 5.0])


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    assert PLAIN.median == 4 and OURS.median == 3
    assert OURS.ratio(PLAIN) == 0.5  # of 0.5, 0.75, 0.5; the ratio of the medians is 0.75
    assert PLAIN.ratio(PLAIN) == 1


def test_a_slow_round_does_not_change_the_ratio() -> None:
    slow = [Row(row.name, [100 * row.values[0], *row.values[1:]]) for row in (OURS, PLAIN)]
    assert slow[0].ratio(slow[1]) == OURS.ratio(PLAIN)


@pytest.mark.parametrize(
    ("limit", "at_least", "met"), [(0.5, False, True), (0.49, False, False), (0.5, True, True), (0.51, True, False)]
)
def test_targets(limit: float, at_least: bool, met: bool) -> None:
    target = Target("ours", "plain", limit, at_least)
    comparison = Comparison("title", "s", [PLAIN, OURS], [target])
    assert comparison.results() == [(target, 0.5, met)]
    content = comparison.as_json()
    assert content["targets"][0]["met"] is met
    assert content["targets"][0]["at_least" if at_least else "at_most"] == limit


def test_json_has_every_value_and_what_follows() -> None:
    content = Comparison("title", "s", [PLAIN, Row("ours", [1.0, 3.0, 5.0], {"memory": "3 MB"})]).as_json()
    assert content["unit"] == "s"
    assert content["rows"][1] == {
        "name": "ours",
        "values": [1.0, 3.0, 5.0],
        "median": 3.0,
        "lowest": 1.0,
        "highest": 5.0,
        "ratio": 0.5,
        "details": {"memory": "3 MB"},
    }


def test_there_is_no_ratio_to_nothing(tmp_path: Path) -> None:
    rows = [Row("plain", [0.0, 2.0]), Row("ours", [0.0, 1.0])]
    comparison = Comparison("peak memory", "MB", rows, [Target("ours", "plain", 1.5)])
    ((_, ratio, met),) = comparison.results()
    assert math.isnan(ratio) and not met
    report = Report("wsddn", "python tools/benchmark.py wsddn", 1, [comparison], 1.0)
    cells = [cell.strip() for cell in table([report], "pipe").splitlines()[-1].strip("|").split("|")]
    assert cells == ["wsddn", "peak memory: ours", "0.500 MB", "0 to 1.00", "-", "at most 1.5, missed", ""]
    write_reports([report], tmp_path, "wsddn")
    assert json.loads((tmp_path / "wsddn.json").read_text())["comparisons"][0]["rows"][1]["ratio"] is None


@pytest.mark.parametrize("rows", [[], [Row("a", [])], [Row("a", [1.0]), Row("b", [1.0, 2.0])]])
def test_rows_are_of_the_same_rounds(rows: list[Row]) -> None:
    with pytest.raises(ValueError, match="every row needs as many values"):
        Comparison("title", "s", rows)
