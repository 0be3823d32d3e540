"""Platt scaling of the teacher's image scores, and the file that holds it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.cached_scenes import CachedScenes
from mlickd.data.catalog import class_names
from mlickd.distillation import TeacherKnowledge
from mlickd.distillation.calibration import CalibratedKnowledge, Calibration, fit_platt_scaling, load_calibration
from mlickd.distillation.teacher_config import load_teacher_configs
from mlickd.errors import InputError
from mlickd.files import file_digest

HELD_OUT = ({"dataset": "pets@1of4", "images": "ab", "teacher": "cd"},)
EXAMPLE = Calibration(("cat", "Hündin"), (2.0, 0.5), (1.0, -1.0), 0.5, HELD_OUT)


def gradient(scores: np.ndarray, targets: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Return the gradient of the objective of Platt (1999) with a ridge of 1e-3, for one class."""
    scores, targets = scores[targets >= 0].astype(np.float64), targets[targets >= 0]
    p = np.clip(scores, 1e-4, 1 - 1e-4)
    z = np.log(p / (1 - p))
    positives, negatives = (targets == 1).sum(), (targets == 0).sum()
    t = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    residual = 1 / (1 + np.exp(-(slope * z + intercept))) - t
    return np.array([(residual * z).sum() + 1e-3 * (slope - 1), residual.sum() + 1e-3 * intercept])


@given(st.integers(0, 60), st.integers(0, 2**32 - 1), st.sampled_from(["any", "none", "all", "separable", "equal"]))
def test_the_fit_is_the_minimum_of_platts_objective(count: int, seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.random((count, 3)).astype(np.float32) ** 4
    targets = generator.integers(-1, 2, (count, 3)).astype(np.int8)
    if kind == "none":
        targets[targets == 1] = 0
    elif kind == "all":
        targets[targets == 0] = 1
    elif kind == "separable":
        targets = (scores > 0.1).astype(np.int8)
    elif kind == "equal":
        scores[:] = 0.25
    slopes, intercepts = fit_platt_scaling(scores, targets)
    assert slopes.shape == intercepts.shape == (3,)
    for c in range(3):
        assert np.abs([slopes[c], intercepts[c]]).max() < 50
        assert np.abs(gradient(scores[:, c], targets[:, c], slopes[c], intercepts[c])).max() < 1e-4


def test_only_image_scores_are_calibrated() -> None:
    known = [TeacherKnowledge(torch.tensor([0.25, 1.0 + 1e-6]), boxes=torch.ones(1, 4)), TeacherKnowledge(None)]
    first, second = CalibratedKnowledge(lambda batch: known, EXAMPLE)([{}, {}])
    p = np.array([0.25, 1 - 1e-4])
    expected = 1 / (1 + np.exp(-(np.array([2.0, 0.5]) * np.log(p / (1 - p)) + np.array([1.0, -1.0]))))
    np.testing.assert_allclose(first.image_scores, expected, rtol=1e-5)
    assert first.image_scores.dtype == torch.float32 and first.boxes is known[0].boxes and second.image_scores is None


def test_a_file_holds_it_to_the_last_digit(tmp_path: Path) -> None:
    calibration = Calibration(("a", "b"), (1 / 3, 2e-17), (-7.1, 0.1), 0.7, EXAMPLE.held_out)
    for expected in (calibration, EXAMPLE):
        expected.save(tmp_path / "new" / "c.json")
        assert Calibration.load(str(tmp_path / "new" / "c.json")) == expected


@pytest.mark.parametrize(
    "change",
    [
        None,
        lambda content: "{",
        lambda content: [],
        lambda content: content | {"slopes": [1.0, float("nan")]},
        lambda content: content | {"held_out": [{"dataset": "x"}]},
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, change) -> None:
    path = tmp_path / "c.json"
    if change is not None:
        EXAMPLE.save(path)
        content = change(json.loads(path.read_text()))
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=f"KD.PREDICTION.CALIBRATION {path}") as error:
        Calibration.load(str(path))
    assert "\n" not in str(error.value)


def test_it_fits_one_teacher_its_classes_and_its_settings(scenes: CachedScenes, tmp_path: Path) -> None:
    names = class_names("tiny_train")
    held_out = ({"dataset": "tiny_train@1of2", "images": "", "teacher": file_digest(scenes.teacher)},)
    fitting = Calibration(tuple(names), (1.0,) * 20, (0.0,) * 20, 1.0, held_out)
    path = tmp_path / "c.json"
    cfg = scenes.config("prediction", "", "KD.PREDICTION.CALIBRATION", str(path))
    teachers = load_teacher_configs(cfg)
    fitting.save(path)
    assert load_calibration(cfg, teachers) == fitting
    assert load_calibration(scenes.config("prediction"), teachers) is None
    for change, key in (
        ({"classes": (names[1], names[0], *names[2:])}, "classes"),
        ({"temperature": 2.0}, "KD.PREDICTION.TEACHER_TEMPERATURE"),
        ({"flip": True}, "KD.TEACHER.FLIP"),
        ({"held_out": EXAMPLE.held_out}, "KD.TEACHER.WEIGHTS"),
    ):
        Calibration(**(vars(fitting) | change)).save(path)
        with pytest.raises(InputError, match=f"KD.PREDICTION.CALIBRATION {path}: .*{key}"):
            load_calibration(cfg, teachers)
