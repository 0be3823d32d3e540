"""Configurations of teachers, averages over mirrored views, and teachers of several datasets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from helpers.cached_scenes import CachedScenes, samples, scenes_teacher_config
from helpers.small_models import make_batch, save_teacher, student_config, teacher_config
from mlickd.data import View
from mlickd.distillation import FrozenTeacher, KnowledgeRequest, LiveTeacher
from mlickd.distillation.cache import CachedKnowledge
from mlickd.distillation.teacher import average_streams
from mlickd.distillation.teacher_config import check_teachers, load_teacher_config, load_teacher_configs
from mlickd.engine import check_inputs
from mlickd.errors import InputError
from mlickd.modeling.meta_arch import mirrored_view
from mlickd.modeling.roi_heads import RegionPredictions, region_scores

PARTS = ("tiny_train@1of2", "tiny_train@2of2")


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
        load_teacher_configs(student_config(teacher, "feature", *options))


def test_an_incomplete_teacher_stops_the_run(teacher: Path, tmp_path: Path) -> None:
    weights = torch.load(teacher, weights_only=True)["model"]
    del weights["roi_heads.class_stream.bias"]
    (tmp_path / "config.yaml").write_text(teacher_config().dump())
    torch.save({"model": weights}, tmp_path / "model_final.pth")
    with pytest.raises(InputError, match=r"KD.TEACHER.WEIGHTS .* missing: roi_heads.class_stream.bias"):
        LiveTeacher(student_config(tmp_path / "model_final.pth", "prediction"))


def train_teachers(folder: Path, *options: object) -> str:
    """Write a teacher for each part, the second with these options, and return the value of KD.TEACHER.WEIGHTS."""
    for number, part in enumerate(PARTS):
        (folder / part).mkdir(parents=True)
        weights = save_teacher(folder / part, scenes_teacher_config(*(options if number else ())))
        content = torch.load(weights, weights_only=True)
        content["model"] = {name: value * (1 + number) for name, value in content["model"].items()}
        torch.save(content, weights)
    return str(folder / "{dataset}" / "model_final.pth")


def config_of_parts(scenes: CachedScenes, stage: str, cache: object, weights: str):
    files = (str(scenes.proposals),) * 2
    options = ["DATASETS.TRAIN", PARTS, "DATASETS.PROPOSALS.TRAIN_FILES", files, "KD.TEACHER.WEIGHTS", weights]
    return scenes.config(stage, cache, *options), options


def test_each_part_has_the_knowledge_of_its_teacher(scenes: CachedScenes, tmp_path: Path) -> None:
    cache, weights = tmp_path / "cache", train_teachers(tmp_path)
    cfg, options = config_of_parts(scenes, "prediction", cache, weights)
    scenes.make(str(cache), *options)
    for stage in ("feature", "prediction"):
        check_inputs(scenes.config(stage, cache, *options))
    views = [(1, View(32)), (13, View(32, mirror=True))]
    batch = samples(cfg, views)
    assert [sample["dataset"] for sample in batch] == list(PARTS)
    cached = [knowledge.image_scores for knowledge in CachedKnowledge(cfg)(batch)]
    for index, view in enumerate(views):
        scores = []
        for part in PARTS:
            live_cfg = scenes.config("prediction", "", *options, "KD.TEACHER.WEIGHTS", weights.format(dataset=part))
            (known,) = LiveTeacher(live_cfg)(samples(live_cfg, [view]))
            scores.append(known.image_scores)
        torch.testing.assert_close(cached[index], scores[index], rtol=2e-3, atol=1e-5)
        assert not torch.allclose(cached[index], scores[1 - index], rtol=2e-3, atol=1e-5)

    (tmp_path / PARTS[1] / "model_final.pth").write_bytes((tmp_path / PARTS[0] / "model_final.pth").read_bytes())
    with pytest.raises(InputError, match=f"{PARTS[1]}.* teacher "):
        CachedKnowledge(cfg)


def test_teachers_with_different_settings_are_refused(scenes: CachedScenes, tmp_path: Path) -> None:
    weights = train_teachers(tmp_path, "INPUT.SIZE_TEST", 48)
    cfg, options = config_of_parts(scenes, "prediction", tmp_path / "cache", weights)
    scenes.make(str(tmp_path / "cache"), *options, features=False, mirrored=False)
    with pytest.raises(InputError, match=rf"{PARTS[1]}.*INPUT.SIZE_TEST 48, not 64.*{PARTS[0]}"):
        CachedKnowledge(cfg)
    check_teachers(load_teacher_configs(cfg))
    missing = tmp_path / PARTS[1] / "model_final.pth"
    missing.unlink()
    with pytest.raises(InputError, match=f"KD.TEACHER.WEIGHTS {missing}"):
        check_teachers(load_teacher_configs(cfg))
