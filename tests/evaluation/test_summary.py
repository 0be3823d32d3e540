"""The table of teacher, baseline and distilled student."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from mlickd.errors import InputError
from mlickd.evaluation.summary import METRICS, collect_results, summary_table


def write_results(folder: Path, values: dict[str, float]) -> None:
    for model, value in values.items():
        (folder / model).mkdir(parents=True)
        metrics = {metric: value + i for i, metric in enumerate(METRICS)}
        (folder / model / "results.json").write_text(json.dumps({"multilabel": metrics}))


def rows(table: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: row[1:] for row in cells}


def test_the_table_has_mean_spread_and_paired_difference(tmp_path: Path) -> None:
    seeds = [{"teacher": 70.0, "baseline": 50.0, "distilled/prediction": 54.0}]
    seeds += [{"teacher": 72.0, "baseline": 51.0, "distilled/prediction": 53.0}]
    for i, values in enumerate(seeds):
        write_results(tmp_path / str(i), values)
    results = [collect_results(tmp_path / str(i)) for i in range(2)]
    seconds = [{"teacher": 10.0, "baseline": 20.0, "distilled/feature": 15.0, "distilled/prediction": 5.0}] * 2
    seconds = [of_seed | {"knowledge": 7.0} for of_seed in seconds]
    costs = {model: {"parameters": 1.5, "milliseconds": 8.0} for model in seeds[0]}
    found = rows(summary_table(results, costs, seconds))
    assert found["Baseline"][0] == f"50.5 ± {statistics.stdev([50, 51]):.1f}"
    assert found["Distilled"][0] == f"53.5 ± {statistics.stdev([54, 53]):.1f}"
    assert found["Distilled - baseline"][0] == f"+3.0 ± {statistics.stdev([4, 2]):.1f}"
    assert found["Distilled"][-3:] == ["27", "1.50", "8.0"]
    assert found["Teacher"][-3] == "10"


def test_a_shared_teacher_is_read_from_its_own_folder(tmp_path: Path) -> None:
    write_results(tmp_path / "seed1", {"baseline": 50.0, "distilled/prediction": 51.0})
    write_results(tmp_path / "other", {"teacher": 70.0})
    results = collect_results(tmp_path / "seed1", tmp_path / "other" / "teacher")
    seconds = [{"baseline": 20.0, "distilled/feature": 15.0, "distilled/prediction": 5.0}]
    found = rows(summary_table([results], seconds=seconds))
    assert found["Teacher"][0] == "70.0" and found["Teacher"][-1] == ""
    assert found["Distilled"][-1] == "20", "runs with a live teacher have no such step"


def test_one_seed_has_no_spread_and_a_missing_model_no_row(tmp_path: Path) -> None:
    write_results(tmp_path, {"baseline": 50.0, "distilled/prediction": 49.5})
    found = rows(summary_table([collect_results(tmp_path)]))
    assert "Teacher" not in found
    assert found["Baseline"][0] == "50.0" and found["Distilled - baseline"][0] == "-0.5"


@pytest.mark.parametrize("content", ["", "[]", '{"other": 1}', "[" * 5000])
def test_a_damaged_report_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "baseline").mkdir()
    (tmp_path / "baseline/results.json").write_text(content)
    with pytest.raises(InputError, match="baseline/results.json: is no report of an evaluation"):
        collect_results(tmp_path)
