from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mlickd.data.checking import LabelStatistics
from mlickd.errors import InputError
from mlickd.visualization.charts import _join_stages, draw_training_curves
from mlickd.visualization.label_charts import draw_label_frequencies, draw_labels, draw_region_counts


def write_metrics(folder: Path, *lines: dict) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    return folder


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def has_ink(path: Path) -> bool:
    return bool((pixels_of(path).min(axis=2) < 250).mean() > 0.005)


@pytest.fixture
def stages(tmp_path: Path) -> list[Path]:
    first = {"iteration": 39, "total_loss": 7.0}
    last = {"iteration": 39, "total_loss": 5.0, "loss_label": 1.0, "tiny_test/multilabel/mAP": 60.0}
    return [
        write_metrics(tmp_path / "feature", {"iteration": 19, "total_loss": 9.0}, first),
        write_metrics(tmp_path / "prediction", {"iteration": 19, "total_loss": 2.0}, last),
    ]


def test_a_stage_starts_where_the_one_before_ends(stages: list[Path]):
    losses, means, boundaries = _join_stages(stages)
    assert losses == [(19, 9.0), (39, 7.0), (59, 2.0), (79, 1.0)], "the loss of the labels if it is there"
    assert means == [(79, 60.0)] and boundaries == [(40, "prediction")]


def test_training_curves_are_drawn(tmp_path: Path, stages: list[Path]):
    before = dict(matplotlib.rcParams)
    plain = write_metrics(tmp_path / "baseline", {"iteration": 19, "total_loss": 1.0})
    path = tmp_path / "plots" / "curves.png"
    draw_training_curves({"baseline $x": [plain], "distilled": stages}, path)
    assert has_ink(path) and dict(matplotlib.rcParams) == before
    wide = pixels_of(path).shape[1]
    draw_training_curves({"baseline": [plain]}, path)
    assert pixels_of(path).shape[1] < wide, "no panel for mAP without an evaluation"
    for run in (tmp_path / "gone", write_metrics(tmp_path / "empty", {"iteration": 1})):
        with pytest.raises(InputError, match=r"metrics.json|curves.png"):
            draw_training_curves({"run": [run]}, path)


def test_bars_of_regions_grow_with_their_number(tmp_path: Path):
    lengths = []
    for number in (1, 3):
        # The axis ends at the longest bar, which is always the first class with four regions.
        scores, classes = np.full(4 + number, 0.5), np.array([0] * 4 + [1] * number)
        draw_region_counts(scores, classes, 2, ["$x^2$", "dog"], tmp_path / "regions.png")
        dark = (np.abs(pixels_of(tmp_path / "regions.png") - [0x0B, 0x4D, 0x26]).sum(axis=2) < 12).sum(axis=1)
        lengths.append(np.unique(dark[dark > 60]))
    assert lengths[0].max() == pytest.approx(lengths[1].max(), rel=0.02)
    assert lengths[1].min() == pytest.approx(3 * lengths[0].min(), rel=0.1)


def test_labels_and_frequencies_without_any_pair_are_drawn(tmp_path: Path):
    draw_label_frequencies({"a": np.full((2, 2), np.nan)}, ["x", "$y"], tmp_path / "a.png")
    records = [{"labels": labels, "ignored_labels": []} for labels in ([0, 1], [0], [])]
    draw_labels("name $", LabelStatistics.count(records, ["x", "$y", "z"]), tmp_path / "labels.png")
    assert has_ink(tmp_path / "a.png") and has_ink(tmp_path / "labels.png")
