"""Thresholds of the classes have the best F1, and belong to a checkpoint."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.metric_problems import score_problems
from mlickd.errors import InputError
from mlickd.evaluation import multilabel_metrics
from mlickd.files import file_digest
from mlickd.thresholds import ClassThresholds, best_f1_thresholds, read_thresholds, write_thresholds


def f1_at(scores: np.ndarray, targets: np.ndarray, threshold: float) -> float:
    predicted, positive = (scores >= threshold) & (targets >= 0), targets == 1
    return 2 * (predicted & positive).sum() / (predicted.sum() + positive.sum())


@given(score_problems(max_classes=3), st.sampled_from([np.float32, np.float64]), st.sampled_from([0.3, 0.5]))
def test_no_threshold_has_a_better_f1(problem, dtype, default):
    scores, targets = problem[0].astype(dtype), problem[1]
    thresholds, f1 = best_f1_thresholds(scores, targets, default)
    for column, target, threshold, value in zip(scores.T, targets.T, thresholds, f1, strict=True):
        if not (target == 1).any():
            assert threshold == default and math.isnan(value)
            continue
        column, target = column[target >= 0], target[target >= 0]
        tried = {level: f1_at(column, target, level) for level in np.unique(column)}
        assert 0 <= threshold <= 1
        assert value == pytest.approx(max(tried.values())) == f1_at(column, target, threshold)
        # Midway between two scores, or between the lowest and 0; of equally good thresholds the nearest to the default.
        below = {level: max([0.0, *column[column < level]]) for level in tried}
        best = [(level + below[level]) / 2 for level, f1 in tried.items() if f1 == max(tried.values())]
        assert abs(threshold - default) == pytest.approx(min(abs(other - default) for other in best))


def test_thresholds_separate_neighboring_scores_in_single_precision():
    low = np.float32(0.3)
    scores, targets = np.array([[low], [np.nextafter(low, np.float32(1))]]), np.array([[0], [1]])
    thresholds, _ = best_f1_thresholds(scores, targets)
    assert multilabel_metrics(scores, targets, threshold=thresholds)["OF1"] == 1.0


CLASSES = ["cat", "yeti"]
TUNED = ClassThresholds(CLASSES, [0.25, 0.5], [0.9, None], [12, 0], 0.5, "pets_val", 40, "a" * 64, "student.pth", "")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with a checkpoint and its thresholds."""
    (tmp_path / "student.pth").write_bytes(b"weights")
    tuned = replace(TUNED, checkpoint_sha256=file_digest(tmp_path / "student.pth"))
    write_thresholds(tuned, str(tmp_path / "thresholds.json"))
    return tmp_path


def test_thresholds_are_read_as_written(run: Path):
    assert replace(read_thresholds(str(run / "thresholds.json")), checkpoint_sha256="") == TUNED
    assert "best F1" in json.loads((run / "thresholds.json").read_text())["rule"]


def test_thresholds_of_another_model_are_refused(run: Path):
    tuned, checkpoint = read_thresholds(str(run / "thresholds.json")), run / "student.pth"
    tuned.check("thresholds.json", CLASSES, str(checkpoint))
    for names in (["yeti", "cat"], ["cat"]):
        with pytest.raises(InputError, match=r"thresholds\.json: .* 2 classes"):
            tuned.check("thresholds.json", names)
    checkpoint.write_bytes(b"trained again")
    with pytest.raises(InputError, match=r"thresholds\.json: .*student\.pth"):
        tuned.check("thresholds.json", CLASSES, str(checkpoint))
    checkpoint.unlink()  # as after an export
    tuned.check("thresholds.json", CLASSES, str(checkpoint))
