"""Configurations of distillations with a live or a cached teacher."""

import logging
from pathlib import Path

import pytest

from helpers.cached_scenes import CachedScenes
from helpers.small_models import CONFIGS
from mlickd.distillation import KnowledgeRequest
from mlickd.distillation.cache import check_cache
from mlickd.engine import check_inputs
from mlickd.engine.run_config import load_cache_config
from mlickd.errors import InputError


@pytest.fixture(scope="module")
def cache(scenes: CachedScenes) -> Path:
    return scenes.make("cache", mirrored=False)


def test_a_cache_with_other_settings_is_refused_before_a_run(scenes, cache: Path, caplog) -> None:
    cfg, other = scenes.config("feature", cache), scenes.config("feature", cache, "KD.REGIONS.TOP_K", 3)
    check_inputs(cfg)
    with caplog.at_level(logging.INFO):
        check_cache(cfg, KnowledgeRequest.for_method(cfg))
    assert "tiny_train: 24 images" in caplog.text
    check_cache(other, KnowledgeRequest())
    for check in (check_inputs, lambda cfg: check_cache(cfg, KnowledgeRequest.for_method(cfg))):
        with pytest.raises(InputError, match="KD.REGIONS.TOP_K"):
            check(other)


def test_a_shared_cache_has_the_knowledge_of_all_methods(scenes: CachedScenes, tmp_path: Path) -> None:
    files = []
    for name in ("RoIDistiller", "FitNetsDistiller"):
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(scenes.config("", "x", "KD.FEATURE.DISTILLER", name).dump())
    cfg, request = load_cache_config(str(files[0]), [], [str(files[1])])
    assert cfg.is_frozen() and request == KnowledgeRequest(("conv5",), (("features", "conv5"),))
    files[1].write_text(scenes.config("", "x", "KD.REGIONS.TOP_K", 3).dump())
    with pytest.raises(InputError, match=f"--also-for {files[1]}: KD.REGIONS"):
        load_cache_config(str(files[0]), [], [str(files[1])])
    files[1].write_text("KD: 1")
    with pytest.raises(InputError, match=f"--also-for {files[1]}"):
        load_cache_config(str(files[0]), [], [str(files[1])])


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [("kd", [], "kd.yaml: .*KD.CACHE"), ("cls", ["KD.CACHE", "x"], "cls.yaml: .*distillation")],
)
def test_a_configuration_without_distillation_or_cache_is_refused(tiny_scenes, config, options, message) -> None:
    data = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)"]
    with pytest.raises(InputError, match=message):
        load_cache_config(str(CONFIGS / f"scenes/{config}.yaml"), [*data, *options])
