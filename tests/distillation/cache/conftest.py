"""What the tests of the cache share."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.cached_scenes import CachedScenes


@pytest.fixture(scope="session")
def scenes(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> CachedScenes:
    return CachedScenes.create(tmp_path_factory.mktemp("cached"))


@pytest.fixture(scope="session")
def plain(scenes: CachedScenes) -> Path:
    """A cache with features, without mirrored views; not to be changed."""
    return scenes.make("plain", mirrored=False)
