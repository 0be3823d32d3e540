from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.measurement import Comparison, results_table, time_in_turn, write_results

COMPARISON = Comparison("VGG16", "s", {"plain": [2.0, 4.0, 10.0], "ours": [1.0, 3.0, 5.0]}, {"ours": "3 MB"})


def test_a_ratio_is_the_median_over_the_repetitions() -> None:
    assert COMPARISON.ratio("ours") == 0.5  # the median of 0.5, 0.75 and 0.5; the ratio of the medians is 0.75
    assert COMPARISON.ratio("plain") == 1
    assert math.isnan(Comparison("", "s", {"plain": [0.0], "ours": [1.0]}).ratio("ours"))


def test_calls_take_turns_and_the_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, made = [0.0], []
    seconds = {"a": iter([9.0, 1.0, 2.0]), "b": iter([9.0, 3.0, 4.0])}
    monkeypatch.setattr("benchmarks.measurement.time.perf_counter", lambda: clock[0])

    def call(name: str) -> None:
        made.append(name)
        clock[0] += next(seconds[name])

    comparison = time_in_turn("title", {name: lambda name=name: call(name) for name in "ab"}, 2, scale=1000)
    assert made == ["a", "b"] * 3
    assert comparison.values == {"a": [1000, 2000], "b": [3000, 4000]}


def test_results_are_written_as_a_table_and_with_every_value(tmp_path: Path) -> None:
    missing = Comparison("m", "MB", {"plain": [0.0], "ours": [1234.5]})
    results = {"step": [COMPARISON], "memory": [missing]}
    lines = results_table(results, "pipe").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert cells[1] == ["step", "VGG16: ours", "3.00 s", "1.00 to 5.00", "0.500", "3 MB"]
    assert cells[3] == ["memory", "m: ours", "1,234 MB", "", "-", ""]
    write_results(results, "python tools/benchmark.py all", tmp_path / "new", "all")
    content = json.loads((tmp_path / "new/all.json").read_text())
    assert content["benchmarks"]["step"][0]["values"]["ours"] == [1.0, 3.0, 5.0] and "cores" in content["machine"]
    text = (tmp_path / "new/all.md").read_text()
    assert content["command"] in text and results_table(results, "pipe") in text
