"""A teacher for each dataset, by the name in its path."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.cached_scenes import CachedScenes, samples
from helpers.small_models import save_teacher, teacher_config
from mlickd.config import default_config
from mlickd.data import View
from mlickd.distillation import LiveTeacher
from mlickd.distillation.cache import CachedKnowledge
from mlickd.distillation.teacher_files import check_teachers, with_teacher_of
from mlickd.engine import check_inputs
from mlickd.engine.check_config import check_config
from mlickd.errors import InputError

PARTS = ("tiny_train@1of2", "tiny_train@2of2")


@pytest.fixture(scope="module")
def scenes(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> CachedScenes:
    return CachedScenes.create(tmp_path_factory.mktemp("scenes"))


def train_teachers(folder: Path, *options: object) -> str:
    """A teacher for each part, with weights of its own; what KD.TEACHER.WEIGHTS is then."""
    for number, part in enumerate(PARTS):
        cfg = teacher_config()
        cfg.merge_from_list(["MODEL.NUM_CLASSES", 20, "MODEL.WSDDN.INIT_STD", 2.0, *(options if number else ())])
        (folder / part).mkdir(parents=True)
        weights = save_teacher(folder / part, cfg)
        content = torch.load(weights, weights_only=True)
        content["model"] = {name: value * (1 + number) for name, value in content["model"].items()}
        torch.save(content, weights)
    return str(folder / "{dataset}" / "model_final.pth")


def parts_of(scenes: CachedScenes, weights: str) -> list[object]:
    files = (str(scenes.proposals),) * 2
    return ["DATASETS.TRAIN", PARTS, "DATASETS.PROPOSALS.TRAIN_FILES", files, "KD.TEACHER.WEIGHTS", weights]


def test_the_name_of_the_data_set_is_put_in() -> None:
    cfg = default_config()
    cfg.KD.TEACHER.WEIGHTS = "a/model.pth"
    assert with_teacher_of(cfg, "x@1of3") is cfg
    cfg.KD.TEACHER.WEIGHTS, cfg.KD.TEACHER.CONFIG_FILE = "a/{dataset}/model.pth", "{dataset}.yaml"
    cfg.DATASETS.TRAIN = ("first", "second")
    cfg.freeze()
    for given, name in (("x@1of3", "x@1of3"), (None, "first")):
        of = with_teacher_of(cfg, given)
        assert of.KD.TEACHER.WEIGHTS == f"a/{name}/model.pth" and of.KD.TEACHER.CONFIG_FILE == f"{name}.yaml"
        assert of.is_frozen() and cfg.KD.TEACHER.WEIGHTS == "a/{dataset}/model.pth"


def test_each_part_has_the_knowledge_of_its_own_teacher(scenes: CachedScenes, tmp_path: Path) -> None:
    weights = train_teachers(tmp_path)
    options = parts_of(scenes, weights)
    scenes.make(str(tmp_path / "cache"), *options)
    for stage in ("feature", "prediction"):
        check_inputs(scenes.config(stage, tmp_path / "cache", *options))
    cfg = scenes.config("prediction", tmp_path / "cache", *options)
    cached = CachedKnowledge(cfg)
    views = [(1, View(32)), (13, View(32, mirror=True))]
    batch = samples(cfg, views)
    assert [sample["dataset"] for sample in batch] == list(PARTS)
    told = [knowledge.image_scores for knowledge in cached(batch)]
    for index, view in enumerate(views):
        scores = []
        for part in PARTS:
            live_cfg = with_teacher_of(scenes.config("prediction", "", *options), part)
            (of_part,) = LiveTeacher(live_cfg)(samples(live_cfg, [view]))
            scores.append(of_part.image_scores)
        torch.testing.assert_close(told[index], scores[index], rtol=2e-3, atol=1e-5)
        assert not torch.allclose(told[index], scores[1 - index], rtol=2e-3, atol=1e-5)


def test_a_part_with_the_knowledge_of_another_teacher_is_refused(scenes: CachedScenes, tmp_path: Path) -> None:
    weights = train_teachers(tmp_path)
    options = parts_of(scenes, weights)
    scenes.make(str(tmp_path / "cache"), *options, features=False, mirrored=False)
    (tmp_path / PARTS[1] / "model_final.pth").write_bytes((tmp_path / PARTS[0] / "model_final.pth").read_bytes())
    with pytest.raises(InputError, match=r"tiny_train@2of2.*was made with another teacher checkpoint"):
        CachedKnowledge(scenes.config("prediction", tmp_path / "cache", *options))


def test_teachers_of_two_kinds_are_refused(scenes: CachedScenes, tmp_path: Path) -> None:
    weights = train_teachers(tmp_path, "INPUT.SIZE_TEST", 48)
    options = parts_of(scenes, weights)
    scenes.make(str(tmp_path / "cache"), *options, features=False, mirrored=False)
    message = r"the teacher of tiny_train@2of2 has another teacher configuration \(INPUT.SIZE_TEST 48, not 64\)"
    with pytest.raises(InputError, match=f"{message} of the teacher of tiny_train@1of2; train both with one"):
        CachedKnowledge(scenes.config("prediction", tmp_path / "cache", *options))


def test_several_teachers_are_not_run_live(scenes: CachedScenes, tmp_path: Path) -> None:
    options = parts_of(scenes, "{dataset}/model_final.pth")
    with pytest.raises(InputError, match="KD.TEACHER.WEIGHTS.*KD.CACHE"):
        check_config(scenes.config("feature", "", *options))


def test_a_missing_teacher_is_named(scenes: CachedScenes, tmp_path: Path) -> None:
    weights = train_teachers(tmp_path)
    cfg = scenes.config("prediction", tmp_path / "cache", *parts_of(scenes, weights))
    check_teachers(cfg)
    missing = tmp_path / PARTS[1] / "model_final.pth"
    missing.unlink()
    with pytest.raises(InputError, match=f"KD.TEACHER.WEIGHTS {missing}: no such file"):
        check_teachers(cfg)
