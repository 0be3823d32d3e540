"""A knowledge cache through its command line."""

import logging
from pathlib import Path

from helpers.cached_scenes import CachedScenes


def test_processes_of_torchrun_share_the_images(scenes: CachedScenes, tmp_path: Path, call_tool, caplog, monkeypatch):
    cache, config = tmp_path / "cache", tmp_path / "student.yaml"
    config.write_text(scenes.config("", cache).dump())
    for rank, wrote in ((1, False), (0, True)):
        with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
            for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2}.items():
                patch.setenv(name, str(value))
            made = call_tool("cache_knowledge", "--config-file", config)
        assert made.status == 0 and bool(list(cache.rglob("*.safetensors"))) == wrote, made.err
    assert f"{cache}/tiny_train" in caplog.text
    assert call_tool("cache_knowledge", "--config-file", config, "--check").status == 0
