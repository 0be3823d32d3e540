"""A knowledge cache through its command line, and training from it."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cached_scenes import CachedScenes

TRAIN = Path(__file__).parents[2] / "tools" / "train_net.py"


@pytest.fixture(scope="module")
def scenes(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> CachedScenes:
    return CachedScenes.create(tmp_path_factory.mktemp("command"))


def arguments(scenes: CachedScenes, cache: Path, *options: object) -> list[str]:
    """Return a configuration file and options as a user gives them."""
    path = scenes.folder / "student.yaml"
    path.write_text(scenes.config("", cache, "KD.FEATURE.WEIGHT", 0.001, "MODEL.DEVICE", "cpu").dump())
    more = ["SOLVER.MAX_ITER", 2, "SOLVER.WARMUP_ITERS", 1, "INPUT.SIZE_TEST", 32]
    return [str(argument) for argument in ("--config-file", path, *options, *more)]


def test_training_needs_only_the_cache(scenes: CachedScenes, tmp_path: Path, call_tool, caplog, monkeypatch) -> None:
    cache = tmp_path / "cache"
    for rank, wrote in ((1, False), (0, True)):  # as torchrun starts two processes
        with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
            for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2}.items():
                patch.setenv(name, str(value))
            made = call_tool("cache_knowledge", *arguments(scenes, cache))
        assert made.status == 0 and bool(list(cache.rglob("*.safetensors"))) == wrote, made.err
    assert f"{cache}/tiny_train" in caplog.text
    assert call_tool("cache_knowledge", *arguments(scenes, cache, "--check")).status == 0

    scenes.proposals.rename(tmp_path / "proposals")
    options = arguments(scenes, cache, "--kd-stage", "feature")
    # In a separate process, because training sets up loggers and seeds.
    result = subprocess.run(
        [sys.executable, TRAIN, *options, "OUTPUT_DIR", tmp_path / "student"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"cache {cache}" in result.stdout
    assert f"Teacher: {scenes.teacher}" not in result.stdout
    assert (tmp_path / "student" / "feature" / "student.pth").is_file()
