"""The table of the paper for several methods and seeds."""

from __future__ import annotations

import statistics

from mlickd.evaluation.comparison_table import (
    ComparedMethod,
    Table,
    csv_table,
    difference_table,
    markdown,
    metric_table,
)
from mlickd.evaluation.published import PUBLISHED, PUBLISHED_SOURCE
from mlickd.evaluation.summary import METRICS


def method(name: str, means: dict[int | None, float], **others: object) -> ComparedMethod:
    """Whose metrics are one point apart."""
    values = {seed: {metric: mean + i for i, metric in enumerate(METRICS)} for seed, mean in means.items()}
    return ComparedMethod(name, values, **others)


TEACHER = method("teacher", {None: 80.0}, paired=False)
BASELINE = method("baseline", {1: 50.0, 2: 52.0, 3: 51.0}, iterations="400", seconds=[10.0, 12.0])
DISTILLED = method("distilled", {1: 53.0, 3: 55.0}, failed=[2], iterations="60 + 340")
LOST = method("fitnets", {}, failed=[1], missing=[2, 3])
ALL = [TEACHER, BASELINE, DISTILLED, LOST]


def cells(table: Table) -> dict[str, dict[str, str]]:
    """By row and column."""
    return {row[0]: dict(zip(table.headers, row, strict=True)) for row in table.rows}


def test_each_method_has_mean_and_spread_of_its_runs_and_says_which_failed() -> None:
    found = cells(metric_table(ALL))
    assert found["baseline"]["All mAP"] == f"51.0 ± {statistics.stdev([50, 52, 51]):.1f}"
    assert found["baseline"]["top-3 OF1"] == f"55.0 ± {statistics.stdev([50, 52, 51]):.1f}"
    assert found["baseline"]["seeds"] == "1, 2, 3" and found["baseline"]["training, s"] == "11"
    assert found["distilled"]["All mAP"] == f"54.0 ± {statistics.stdev([53, 55]):.1f}"
    assert found["distilled"]["seeds"] == "1, 3; failed: 2" and found["distilled"]["iterations"] == "60 + 340"
    assert found["fitnets"]["All CF1"] == "failed" and found["fitnets"]["seeds"] == "failed: 1; not run: 2, 3"
    assert found["teacher"]["All mAP"] == "80.0" and found["teacher"]["seeds"] == ""
    assert cells(metric_table([method("led", {}, missing=[1])]))["led"]["All mAP"] == "not run"
    changed = cells(metric_table([method("led", {}, changed=[2], missing=[1])]))["led"]
    assert changed["All mAP"] == "changed" and changed["seeds"] == "changed: 2; not run: 1"


def test_differences_are_of_pairs_alone() -> None:
    found = cells(difference_table(ALL, BASELINE))
    assert list(found) == ["distilled", "fitnets"]
    # Pairs 53 - 50 and 55 - 51: mean 3.5, deviation 0.7071, t of one degree of freedom 12.7062.
    assert found["distilled"]["All mAP"] == "+3.5 [-2.9, +9.9]" and found["distilled"]["pairs"] == "2"
    assert found["fitnets"]["All mAP"] == "no pair" and found["fitnets"]["pairs"] == "0"


def test_published_values_stand_in_columns_of_their_own() -> None:
    table = metric_table(ALL, PUBLISHED["coco"])
    found = cells(table)
    assert table.groups[-1] == (PUBLISHED_SOURCE, 5)
    assert found["distilled"][f"{PUBLISHED_SOURCE} All mAP"] == "74.6"
    assert found["distilled"]["All mAP"].startswith("54.0"), "what is measured stays"
    assert found["teacher"][f"{PUBLISHED_SOURCE} All mAP"] == ""
    assert cells(csv_table(ALL, BASELINE, PUBLISHED["nus_wide"]))["fitnets"][f"{PUBLISHED_SOURCE} mAP"] == "57.4"


def test_the_figures_of_a_table_are_in_the_csv() -> None:
    found = cells(csv_table(ALL, BASELINE, None))
    assert found["distilled"]["mAP mean"] == "54.0000" and found["distilled"]["mAP difference"] == "3.5000"
    assert float(found["distilled"]["mAP low 95%"]) < -2.8 < 9.8 < float(found["distilled"]["mAP high 95%"])
    assert found["baseline"]["mAP difference"] == "" and found["teacher"]["mAP difference"] == ""
    assert found["fitnets"]["mAP mean"] == "" and found["fitnets"]["missing seeds"] == "2 3"
    assert cells(csv_table([method("led", {}, changed=[2, 4])], None, None))["led"]["changed seeds"] == "2 4"


def test_without_a_student_without_there_are_no_differences() -> None:
    assert cells(csv_table([DISTILLED], None, None))["distilled"]["mAP difference"] == ""


def test_markdown_survives_a_hostile_name() -> None:
    lines = markdown(metric_table([method("a|b\nc", {1: 5.0})])).splitlines()
    assert len(lines) == 3 and "a\\|b c" in lines[2]
