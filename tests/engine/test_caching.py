"""Caches from a configuration."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from helpers.cached_scenes import CachedScenes
from mlickd.data.build import needs_proposals
from mlickd.distillation import KnowledgeRequest, LiveTeacher
from mlickd.distillation.cache import CachedKnowledge
from mlickd.engine import check_inputs
from mlickd.engine.caching import check_cache, prepare_caching
from mlickd.engine.performance import keep_freed_memory
from mlickd.engine.trainer import build_knowledge_source
from mlickd.errors import InputError


@pytest.fixture(scope="module")
def scenes(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> CachedScenes:
    return CachedScenes.create(tmp_path_factory.mktemp("caching"))


@pytest.fixture(scope="module")
def cache(scenes: CachedScenes) -> Path:
    return scenes.make("cache")


def test_the_teachers_freed_memory_is_kept_as_in_training(
    scenes: CachedScenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    monkeypatch.setattr("mlickd.engine.caching.keep_freed_memory", lambda: kept.append(keep_freed_memory()))
    scenes.make(str(tmp_path))
    assert len(kept) == 1


def test_a_damaged_teacher_is_one_line(scenes: CachedScenes, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(scenes.teacher.read_bytes()[:5000])
    options = ["KD.TEACHER.CONFIG_FILE", str(scenes.folder / "config.yaml"), "KD.TEACHER.WEIGHTS", str(broken)]
    with pytest.raises(InputError, match=f"KD.TEACHER.WEIGHTS {broken} is not a readable checkpoint") as error:
        scenes.make(str(tmp_path / "cache"), *options)
    assert "\n" not in str(error.value)


def test_knowledge_comes_from_the_cache_where_there_is_one(scenes: CachedScenes, cache: Path) -> None:
    live, cached = scenes.config("feature"), scenes.config("feature", cache)
    assert isinstance(build_knowledge_source(live), LiveTeacher)
    assert isinstance(build_knowledge_source(cached), CachedKnowledge)
    assert needs_proposals(live, training=True) and not needs_proposals(cached, training=True)


def test_a_cache_that_does_not_fit_stops_a_run_before_it_starts(scenes: CachedScenes, cache: Path) -> None:
    check_inputs(scenes.config("feature", cache))
    with pytest.raises(InputError, match="was made with other settings of R'"):
        check_inputs(scenes.config("feature", cache, "KD.REGIONS.TOP_K", 3))


def test_check_says_what_is_there(scenes: CachedScenes, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = scenes.config("", cache)
    cfg.freeze()
    with caplog.at_level(logging.INFO):
        check_cache(cfg, KnowledgeRequest.of_method(cfg))
    assert "tiny_train: 24 images" in caplog.text
    cfg = scenes.config("", cache, "KD.REGIONS.TOP_K", 3)
    check_cache(cfg, KnowledgeRequest())
    with pytest.raises(InputError, match="was made with other settings of R'"):
        check_cache(cfg, KnowledgeRequest.of_method(cfg))


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("kd", [], "KD.CACHE is empty; name the folder"),
        ("cls", ["KD.CACHE", "x"], "cls.yaml: a MultiLabelClassifier has no teacher"),
        ("kd", ["KD.CACHE", "x", "KD.REGIONS.WEIGHT", "best"], "'best' is none of"),
    ],
)
def test_a_configuration_without_what_is_needed_is_refused(tiny_scenes, config, options, message) -> None:
    path = Path(__file__).parents[2] / "configs" / "scenes" / f"{config}.yaml"
    data = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)"]
    with pytest.raises(InputError, match=message):
        prepare_caching(str(path), [*data, *options])
