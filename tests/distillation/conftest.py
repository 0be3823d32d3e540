"""Fixtures of the tests of distillation."""

from pathlib import Path

import pytest

from helpers.cached_scenes import CachedScenes
from helpers.small_models import save_teacher


@pytest.fixture(scope="session")
def plain(scenes: CachedScenes) -> Path:
    """A cache with features, without mirrored views; not to be changed."""
    return scenes.make("plain", mirrored=False)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a small teacher."""
    return save_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 8 images."""
    for module in ("making", "reading"):
        monkeypatch.setattr(f"mlickd.distillation.cache.{module}.IMAGES_PER_SHARD", 8)
