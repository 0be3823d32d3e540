"""A teacher that speaks by the mean over its view and the mirror image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.small_models import make_batch, save_teacher, student_config, teacher_config
from mlickd.distillation import FrozenTeacher, KnowledgeRequest, RegionKnowledge
from mlickd.distillation.averaging import averaged_streams
from mlickd.modeling.meta_arch import mirrored_view
from mlickd.modeling.roi_heads import RegionPredictions


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 3), st.floats(0.3, 3), st.integers(0, 2**31))
def test_softmaxes_of_the_averaged_logits_are_means(counts: list, views: int, temperature: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    streams = generator.normal(scale=5, size=(views, 2, sum(counts), 4))
    predictions = [
        RegionPredictions(torch.empty(0), torch.empty(0), *torch.tensor(of_view), counts) for of_view in streams
    ]
    averaged = averaged_streams(predictions)
    bounds = np.cumsum([0, *counts])
    for low, high, scores in zip(bounds, bounds[1:], averaged.scores(temperature), strict=False):
        means = [softmax(streams[:, i, low:high], 2 - i).mean(axis=0) for i in range(2)]
        # A temperature takes powers of the means, and they sum to one again.
        powers = [(mean ** (1 / temperature)) for mean in means]
        classes, regions = (power / power.sum(axis=1 - i, keepdims=True) for i, power in enumerate(powers))
        np.testing.assert_allclose(scores.numpy(), classes * regions, rtol=1e-6, atol=1e-12)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    cfg = teacher_config()
    cfg.MODEL.WSDDN.INIT_STD = 2.0
    return save_teacher(tmp_path, cfg)


def test_a_mirrored_image_is_spoken_of_as_the_image_is(teacher: Path) -> None:
    batch = [{"image": s["teacher_image"], "proposals": s["teacher_proposals"]} for s in make_batch()]
    mirrored = [mirrored_view(view) for view in batch]

    def known(flip: bool, views: list[dict]) -> list[RegionKnowledge]:
        frozen = FrozenTeacher(student_config(teacher, "prediction", "KD.TEACHER.FLIP", flip), KnowledgeRequest())
        return frozen([view["image"] for view in views], [view["proposals"] for view in views])

    def scores(flip: bool, views: list[dict]) -> torch.Tensor:
        boxes = [view["proposals"].proposal_boxes.tensor for view in views]
        pairs = zip(known(flip, views), boxes, strict=True)
        return torch.stack([k.as_knowledge(b, 1.0).image_scores for k, b in pairs])

    torch.testing.assert_close(scores(True, batch), scores(True, mirrored))
    assert not torch.allclose(scores(False, batch), scores(False, mirrored), rtol=1e-2)
    expected = []
    for a, b in zip(known(False, batch), known(False, mirrored), strict=True):
        classes = (a.class_logits.softmax(1) + b.class_logits.softmax(1)) / 2
        regions = (a.detection_logits.softmax(0) + b.detection_logits.softmax(0)) / 2
        expected.append((classes * regions).sum(dim=0))
    torch.testing.assert_close(scores(True, batch), torch.stack(expected))
