from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mlickd.errors import InputError
from mlickd.runs import multilabel_results, training_metrics
from mlickd.visualization.curves import _join_stages, _with_room, draw_class_differences, draw_training_curves


def write_metrics(folder: Path, lines: list[dict | str]) -> Path:
    folder.mkdir(parents=True)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "metrics.json").write_text(text)
    return folder


def write_report(path: Path, aps: dict[str, float | None], dataset: str = "tiny_test") -> Path:
    mean = float(np.mean([ap for ap in aps.values() if ap is not None] or [0]))
    report = {
        "dataset": dataset,
        "metrics": {"mAP": mean},
        "per_class": {name: {"AP": ap, "positives": 3} for name, ap in aps.items()},
        "protocol": {"ap": "ranking"},
    }
    path.write_text(json.dumps(report))
    return path


def ink(path: Path) -> float:
    """Part of the picture that is not white."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return float((np.asarray(image.convert("L")) < 250).mean())


@pytest.fixture
def stages(tmp_path: Path) -> list[Path]:
    feature = write_metrics(
        tmp_path / "feature", [{"iteration": 19, "total_loss": 9.0}, {"iteration": 39, "total_loss": 7.0}]
    )
    prediction = write_metrics(
        tmp_path / "prediction",
        [{"iteration": 19, "total_loss": 2.0}, {"iteration": 39, "total_loss": 1.0, "multilabel/mAP": 60.0}],
    )
    return [feature, prediction]


def test_metrics_are_merged_by_iteration(tmp_path: Path):
    folder = write_metrics(
        tmp_path / "run",
        [
            {"iteration": 39, "total_loss": 2.0},
            {"iteration": 19, "total_loss": 3.0},
            {"iteration": 39, "total_loss": 1.5, "tiny_test/multilabel/mAP": 50.0},
            '{"iteration": 59, "total_loss": NaN}',
            '{"iterat',
        ],
    )
    assert training_metrics(folder) == {
        19: {"total_loss": 3.0},
        39: {"total_loss": 1.5, "tiny_test/multilabel/mAP": 50.0},
        59: {},
    }
    assert _join_stages([folder])[1] == [(39, 50.0)]


def test_a_stage_starts_where_the_last_one_ended(stages: list[Path]):
    losses, means, boundaries = _join_stages(stages)
    assert losses == [(19, 9.0), (39, 7.0), (59, 2.0), (79, 1.0)]
    assert means == [(79, 60.0)]
    assert boundaries == [(40, "prediction")]


def test_training_curves_are_drawn(tmp_path: Path, stages: list[Path]):
    before = dict(matplotlib.rcParams)
    plain = write_metrics(tmp_path / "baseline", [{"iteration": 19, "total_loss": 1.0}])
    path = tmp_path / "plots" / "curves.png"
    draw_training_curves({"baseline $x": [plain], "distilled": stages}, path)
    assert ink(path) > 0.01
    assert dict(matplotlib.rcParams) == before
    with Image.open(path) as wide:
        draw_training_curves({"baseline": [plain]}, path)
        with Image.open(path) as narrow:
            assert narrow.width < wide.width, "no panel for mAP where there was no evaluation"


@pytest.mark.parametrize(
    ("lines", "message"),
    [(None, "metrics.json: no such file"), (["{", {"iteration": 1}], "line 1"), ([{"iteration": 1}], "total_loss")],
)
def test_bad_metrics_are_named(tmp_path: Path, lines: list | None, message: str):
    folder = tmp_path / "run" if lines is None else write_metrics(tmp_path / "run", lines)
    with pytest.raises(InputError, match=message):
        draw_training_curves({"run": [folder]}, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_class_differences_are_drawn(tmp_path: Path):
    before = write_report(tmp_path / "before.json", {"cat": 50.0, "$\\frac{$": 40.0, "dog": None})
    after = write_report(tmp_path / "after.json", {"cat": 55.0, "$\\frac{$": 35.0, "dog": None})
    path = tmp_path / "differences.png"
    draw_class_differences(before, after, path)
    assert ink(path) > 0.01
    with Image.open(path) as image:
        red, green, blue = np.asarray(image.convert("RGB")).astype(int).transpose(2, 0, 1)
    is_blue, is_red = blue - red > 100, red - blue > 100
    assert is_blue.sum() > 500 and is_red.sum() > 500
    # The gain is above and to the right, the loss below and to the left.
    assert np.nonzero(is_blue)[0].max() < np.nonzero(is_red)[0].min()
    assert np.nonzero(is_red)[1].max() <= np.nonzero(is_blue)[1].min() + 2


def test_no_difference_at_all_is_drawn(tmp_path: Path):
    report = write_report(tmp_path / "report.json", {"cat": 50.0})
    draw_class_differences(report, report, tmp_path / "differences.png")
    assert ink(tmp_path / "differences.png") > 0.005
    assert _with_room([0.0]) == (-0.2, 0.2)


def test_reports_that_cannot_be_compared_are_refused(tmp_path: Path):
    report = write_report(tmp_path / "a.json", {"cat": 50.0})
    path = tmp_path / "differences.png"
    cases = [
        (write_report(tmp_path / "b.json", {"cat": 50.0}, dataset="other"), "different datasets"),
        (write_report(tmp_path / "c.json", {"dog": 50.0}), "different classes"),
        (tmp_path / "missing.json", "missing.json: no such file"),
    ]
    for other, message in cases:
        with pytest.raises(InputError, match=message):
            draw_class_differences(report, other, path)
    empty = write_report(tmp_path / "d.json", {"cat": None})
    with pytest.raises(InputError, match="no class has a positive"):
        draw_class_differences(empty, empty, path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"metrics": {"mAP": 1}, "per_class": {"cat": 5}}'])
def test_a_file_that_is_no_report_is_named(tmp_path: Path, text: str):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(InputError, match="report.json: not a report"):
        multilabel_results(path)


def test_a_plot_that_cannot_be_written_is_named(tmp_path: Path):
    report = write_report(tmp_path / "report.json", {"cat": 50.0})
    with pytest.raises(InputError, match="report.json.*give another path"):
        draw_class_differences(report, report, report / "plot.png")


def test_students_are_compared_by_the_loss_that_both_have(tmp_path: Path):
    values = {"iteration": 19, "total_loss": 5.0, "loss_label": 3.0, "loss_soft_label": 2.0}
    losses, _, _ = _join_stages([write_metrics(tmp_path / "run", [values])])
    assert losses == [(19, 3.0)]
