"""Charts in PNG files."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mlickd.errors import InputError
from mlickd.visualization.charts import _stage_curves, draw_training_curves
from mlickd.visualization.study_charts import draw_class_gains


def write_metrics(folder: Path, *lines: dict) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    return folder


def read_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def has_ink(path: Path) -> bool:
    return bool((read_pixels(path).min(axis=2) < 250).mean() > 0.005)


def test_training_curves_of_stages_are_joined(tmp_path: Path):
    first = {"iteration": 39, "total_loss": 7.0}
    last = {"iteration": 39, "total_loss": 5.0, "loss_label": 1.0}
    last |= {"tiny_test/multilabel/mAP": 60.0, "tiny_held_out/multilabel/mAP": 40.0}
    stages = [
        write_metrics(tmp_path / "feature", {"iteration": 19, "total_loss": 9.0}, first),
        write_metrics(tmp_path / "prediction", {"iteration": 19, "total_loss": 2.0}, last),
    ]
    assert _stage_curves(stages, "tiny_test") == [
        ((0, "feature"), [(19, 9.0), (39, 7.0)], []),
        ((40, "prediction"), [(59, 2.0), (79, 1.0)], [(79, 60.0)]),
    ], "stage 2 starts where stage 1 ends, and shows its label loss"

    before = dict(matplotlib.rcParams)
    evaluated = [{"iteration": i, "total_loss": 1.0, "multilabel/mAP": 50.0 + i} for i in (9, 19)]
    plain = write_metrics(tmp_path / "baseline", *evaluated)
    report = plain / "inference/tiny_test/multilabel_results.json"
    report.parent.mkdir(parents=True)
    report.touch()
    found = [_stage_curves([plain], dataset)[0][2] for dataset in ("tiny_test", "tiny_held_out")]
    assert found == [[(9, 59.0), (19, 69.0)], []], "the key has no name of the only test dataset"
    path = tmp_path / "plots" / "curves.png"
    draw_training_curves({"baseline $x": [plain], "distilled": stages}, "tiny_test", path)
    assert has_ink(path) and dict(matplotlib.rcParams) == before
    wide = read_pixels(path).shape[1]
    draw_training_curves({"distilled": stages}, "tiny_test", path)
    assert read_pixels(path).shape[1] < wide, "no panel for mAP with a single evaluation"
    with pytest.raises(InputError, match="metrics.json"):
        draw_training_curves({"run": [tmp_path / "gone"]}, "tiny_test", path)


def test_gains_of_any_class_are_drawn(tmp_path: Path):
    gains = {"distilled": np.array([[-4.0, 5.0, np.nan], [-2.0, 7.0, np.nan]])}
    draw_class_gains(gains, ["dog", "$\\frac{$", "nobody"], tmp_path / "gains.png")
    assert has_ink(tmp_path / "gains.png")
    with pytest.raises(InputError, match="plot.png"):
        draw_class_gains(gains, ["dog", "cat", "nobody"], tmp_path / "gains.png" / "plot.png")
