"""The cache through its command line, and training from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cached_scenes import CachedScenes

ROOT = Path(__file__).parents[2]


def run_tool(name: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / name, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def scenes(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> CachedScenes:
    return CachedScenes.create(tmp_path_factory.mktemp("command"))


def arguments(scenes: CachedScenes, cache: Path, *options: object) -> list[object]:
    """A configuration file and options as a user gives them."""
    path = scenes.folder / "student.yaml"
    path.write_text(scenes.config("", cache, "KD.FEATURE.WEIGHT", 0.001, "MODEL.DEVICE", "cpu").dump())
    return ["--config-file", path, *options, "SOLVER.MAX_ITER", 2, "SOLVER.WARMUP_ITERS", 1, "INPUT.SIZE_TEST", 32]


def test_training_from_a_cache_needs_neither_teacher_nor_proposals(scenes: CachedScenes, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    made = run_tool("cache_knowledge.py", *arguments(scenes, cache, "--mirrored"))
    assert made.returncode == 0, made.stdout + made.stderr
    assert "24 images" in made.stderr and "when it is whole" in made.stderr and "24/24" in made.stderr

    scenes.proposals.rename(tmp_path / "proposals")
    for stage in ("feature", "prediction"):
        options = arguments(scenes, cache, "--kd-stage", stage)
        trained = run_tool("train_net.py", *options, "OUTPUT_DIR", tmp_path / "student")
        assert trained.returncode == 0, trained.stdout + trained.stderr
        assert f"Teacher: its knowledge in {cache}" in trained.stdout
        assert f"Teacher: {scenes.teacher}" not in trained.stdout  # what a live one says
    assert (tmp_path / "student" / "prediction" / "student.pth").is_file()


def test_bad_input_ends_with_one_line_and_status_2(scenes: CachedScenes, tmp_path: Path) -> None:
    result = run_tool("cache_knowledge.py", *arguments(scenes, tmp_path, "--shard", "3/2"))
    assert result.returncode == 2 and "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert line.startswith("error: --shard: 3/2 is not I/N")
