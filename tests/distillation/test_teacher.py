"""Configurations of teachers, and averages over mirrored views."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from helpers.small_models import make_batch, save_teacher, student_config, teacher_config
from mlickd.distillation import FrozenTeacher, KnowledgeRequest, LiveTeacher
from mlickd.distillation.teacher import average_streams
from mlickd.distillation.teacher_config import check_teacher, load_teacher_config
from mlickd.errors import InputError
from mlickd.modeling.backbone import VGG
from mlickd.modeling.meta_arch import mirrored_view
from mlickd.modeling.roi_heads import RegionPredictions, region_scores


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.floats(0.3, 3), st.integers(0, 2**31))
def test_averaged_logits_give_the_mean_of_each_softmax(counts: list, temperature: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    streams = generator.normal(scale=5, size=(2, 2, sum(counts), 4))
    predictions = [RegionPredictions(torch.empty(0), *torch.tensor(view), counts) for view in streams]
    found = average_streams(*predictions)
    logits = zip(found.class_logits.split(counts), found.detection_logits.split(counts), strict=True)
    averaged = [region_scores(*both, temperature) for both in logits]
    bounds = np.cumsum([0, *counts])
    for low, high, scores in zip(bounds, bounds[1:], averaged, strict=False):
        means = [softmax(streams[:, i, low:high], 2 - i).mean(axis=0) for i in range(2)]
        # A temperature raises the means to a power, and normalizes them again.
        powers = [mean ** (1 / temperature) for mean in means]
        classes, regions = (power / power.sum(axis=1 - i, keepdims=True) for i, power in enumerate(powers))
        np.testing.assert_allclose(scores.numpy(), classes * regions, rtol=1e-6, atol=1e-12)


def test_with_both_views_an_image_and_its_mirror_image_have_equal_scores(tmp_path: Path) -> None:
    cfg = teacher_config()
    cfg.MODEL.WSDDN.INIT_STD = 2.0
    teacher = save_teacher(tmp_path, cfg)
    batch = [{"image": s["teacher_image"], "proposals": s["teacher_proposals"]} for s in make_batch()]
    mirrored = [mirrored_view(view) for view in batch]

    def scores(flip: bool, views: list[dict]) -> torch.Tensor:
        cfg = student_config(teacher, "prediction", "KD.TEACHER.FLIP", flip)
        frozen = FrozenTeacher(cfg, load_teacher_config(cfg), KnowledgeRequest())
        known = frozen([view["image"] for view in views], [view["proposals"] for view in views])
        return torch.stack([k.to_knowledge(torch.zeros(1, 4), 1.0).image_scores for k in known])

    torch.testing.assert_close(scores(True, batch), scores(True, mirrored))
    assert not torch.allclose(scores(False, batch), scores(False, mirrored), rtol=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("KD.TEACHER.WEIGHTS", ""), "KD.TEACHER.WEIGHTS"),
        (("KD.TEACHER.WEIGHTS", "nowhere/model.pth"), "KD.TEACHER.WEIGHTS: .*nowhere/config.yaml"),
        (("DATASETS.TRAIN", ("pets",), "DATASETS.PROPOSALS.METHOD", "sliding"), "METHOD sliding.*edge_boxes"),
    ],
)
def test_a_teacher_that_does_not_match_is_named(teacher: Path, options: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cfg = student_config(teacher, "feature", *options)
        check_teacher(cfg, load_teacher_config(cfg), KnowledgeRequest())


def test_a_teacher_with_padded_maps_is_refused_by_distillers_of_features(teacher: Path, monkeypatch) -> None:
    monkeypatch.setattr(VGG, "size_divisibility", 48)  # like an FPN
    cfg = student_config(teacher, "feature")
    teacher_cfg = load_teacher_config(cfg)
    check_teacher(cfg, teacher_cfg, KnowledgeRequest())
    for request in (KnowledgeRequest(("conv5",)), KnowledgeRequest((), (("features", "conv5"),))):
        with pytest.raises(InputError, match="64 pixels .*INPUT.SIZE_TEST.* multiple of 48"):
            check_teacher(cfg, teacher_cfg, request)


def test_an_incomplete_teacher_stops_the_run(teacher: Path, tmp_path: Path) -> None:
    weights = torch.load(teacher, weights_only=True)["model"]
    del weights["roi_heads.class_stream.bias"]
    (tmp_path / "config.yaml").write_text(teacher_config().dump())
    torch.save({"model": weights}, tmp_path / "model_final.pth")
    with pytest.raises(InputError, match=r"KD.TEACHER.WEIGHTS .* missing: roi_heads.class_stream.bias"):
        LiveTeacher(student_config(tmp_path / "model_final.pth", "prediction"))
