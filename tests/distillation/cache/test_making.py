"""Caches are written once, whole, and go on where they were stopped."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.cached_scenes import CachedScenes, samples
from mlickd.data import View
from mlickd.distillation.cache import CachedKnowledge, shard_folder
from mlickd.distillation.cache.writer import ShardWriter
from mlickd.distillation.regions import RegionKnowledge
from mlickd.errors import InputError

TWO_BATCHES = """
import sys, time
from pathlib import Path
from helpers.cached_scenes import CachedScenes
from mlickd.distillation.cache.writer import ShardWriter

finish, finished = ShardWriter.finish, []

def finish_two(self, images):
    finish(self, images)
    finished.append(images)
    while len(finished) == 2:
        time.sleep(1)

ShardWriter.finish = finish_two
folder, cache = map(Path, sys.argv[1:])
CachedScenes(folder, folder / "model_final.pth", folder / "proposals").make(str(cache))
"""


def environment() -> dict[str, str]:
    """For processes that are started here: they find this project's helpers as pytest does."""
    places = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}


def contents(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def done_images(cache: Path, shard: tuple[int, int]) -> np.ndarray:
    return np.load(shard_folder(cache, "tiny_train", shard) / "done.npy")


def done(cache: Path) -> int:
    begun = (shard_folder(cache, "tiny_train", (1, 1)) / "header.json").exists()
    return int(done_images(cache, (1, 1)).sum()) if begun else 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_and_resumed(scenes: CachedScenes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "two_batches.py").write_text(TWO_BATCHES)
    cache = tmp_path / "cache"
    process = subprocess.Popen([sys.executable, tmp_path / "two_batches.py", scenes.folder, cache], env=environment())
    try:
        deadline = time.monotonic() + 60
        while done(cache) < 8:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(InputError, match="another process is writing this shard"):
            scenes.make(str(cache))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    before = done(cache)
    assert before == 8
    with pytest.raises(InputError, match=rf"{24 - before} of 24 images are not done; give the command"):
        CachedKnowledge(scenes.config("feature", cache))
    with caplog.at_level(logging.INFO):
        scenes.make(str(cache))
    assert f"{before} of 24 images were done before" in caplog.text
    assert contents(cache) == contents(scenes.make(str(tmp_path / "whole")))


def test_mirrored_views_are_kept_where_training_mirrors(scenes: CachedScenes, tmp_path: Path) -> None:
    for flip, mirrored, views in (("horizontal", True, 2), ("none", True, 1), ("horizontal", False, 1)):
        cache = tmp_path / f"{flip}-{mirrored}"
        options = ["INPUT.RANDOM_FLIP", flip]
        scenes.make(str(cache), *options, features=False, mirrored=mirrored)
        logits = np.load(shard_folder(cache, "tiny_train", (1, 1)) / "class_logits.npy", mmap_mode="r")
        assert logits.shape[0] == views


def test_a_whole_cache_is_not_made_again(scenes: CachedScenes, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(plain)
    monkeypatch.setattr("mlickd.distillation.cache.making.FrozenTeacher", None)  # which cannot be called
    scenes.make("plain", mirrored=False)
    assert contents(plain) == before


def test_what_a_kill_leaves_before_the_header_is_made_again(scenes: CachedScenes, plain: Path, tmp_path: Path) -> None:
    folder = shard_folder(tmp_path, "tiny_train", (1, 1))
    shutil.copytree(shard_folder(plain, "tiny_train", (1, 1)), folder)
    (folder / "header.json").rename(folder / "header.json.0123.unfinished")
    (folder / "boxes.npy").write_bytes(b"")
    scenes.make(str(tmp_path), mirrored=False)
    assert contents(tmp_path) == contents(plain)


def test_shards_hold_what_the_whole_holds(scenes: CachedScenes, plain: Path, tmp_path: Path) -> None:
    for number in (3, 1):
        scenes.make(str(tmp_path), shard=(number, 3), mirrored=False)
    cfg = scenes.config("feature", tmp_path)
    with pytest.raises(InputError, match=r"shard 2/3 is missing; make it with .* --shard 2/3"):
        CachedKnowledge(cfg)
    scenes.make(str(tmp_path), shard=(2, 3), mirrored=False)
    views = [(index, View(32, mirror=index % 2 == 0)) for index in range(24)]
    batch = samples(cfg, views)
    whole, parts = CachedKnowledge(scenes.config("feature", plain))(batch), CachedKnowledge(cfg)(batch)
    for ours, theirs in zip(parts, whole, strict=True):
        # Other images of a batch may round the last bit differently.
        torch.testing.assert_close(ours.image_scores, theirs.image_scores, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(ours.features["conv5"], theirs.features["conv5"], rtol=2e-3, atol=1e-4)
    scenes.make(str(tmp_path / "more"), shard=(30, 30))  # of 24 images: empty, and no error
    assert done_images(tmp_path / "more", (30, 30)).shape == (0,)
    scenes.make(str(tmp_path), shard=(1, 2))
    with pytest.raises(InputError, match="is divided into 2 and into 3 shards"):
        CachedKnowledge(cfg)


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        (["KD.REGIONS.TOP_K", 5], {}, r"regions.top_k 6, not 5"),
        ([], {"mirrored": True}, r"another choice of mirrored views \(False, not True\)"),
        (["INPUT.RANDOM_FLIP", "none"], {"batch_size": 5}, r"another --batch-size \(4, not 5\)"),
        ([], {"features": False}, "other settings of R'"),
    ],
)
def test_another_cache_is_never_overwritten(scenes: CachedScenes, plain: Path, options, arguments, message) -> None:
    before = contents(plain)
    with pytest.raises(InputError, match=rf"was begun with .*{message}.*; change .*, remove this folder, or choose"):
        scenes.make("plain", *options, **{"mirrored": False, **arguments})
    assert contents(plain) == before


def test_a_disk_that_is_too_small_is_refused_with_the_size(
    scenes: CachedScenes, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 2048, 2048))
    with pytest.raises(InputError, match=r"needs .* MiB more, and its disk has 2.0 KiB free") as error:
        scenes.make(str(tmp_path / "cache"))
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").rglob("*.npy"))
    scenes.make("plain", mirrored=False)  # is there already, and needs nothing


LIMITED = """
import resource, sys
from pathlib import Path
import mlickd.engine.caching as caching
from helpers.cached_scenes import CachedScenes
from mlickd.errors import run_tool

run_teacher = caching.run_teacher

def limited(*arguments):
    # No file may be written behind its 4096th byte, which fails as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    run_teacher(*arguments)

caching.run_teacher = limited
folder, cache = map(Path, sys.argv[1:])
scenes = CachedScenes(folder, folder / "model_final.pth", folder / "proposals")
run_tool(lambda: scenes.make(str(cache), mirrored=False))
"""


def test_a_write_that_fails_ends_with_one_line_and_can_be_resumed(
    scenes: CachedScenes, plain: Path, tmp_path: Path
) -> None:
    pytest.importorskip("resource")
    (tmp_path / "limited.py").write_text(LIMITED)
    command = [sys.executable, tmp_path / "limited.py", scenes.folder, tmp_path / "cache"]
    # Pipes are no files: what is printed is not limited.
    process = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert process.returncode == 2, process.stderr
    assert "cannot be written (File too large); make room" in process.stderr.splitlines()[-1]
    assert done(tmp_path / "cache") == 0
    scenes.make(str(tmp_path / "cache"), mirrored=False)
    assert contents(tmp_path / "cache") == contents(plain)


def test_a_folder_that_cannot_be_written_is_named(scenes: CachedScenes, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/cache.* cannot be written \(Not a directory\)"):
        scenes.make(str(tmp_path / "file" / "cache"))


@pytest.mark.parametrize("value", [float("nan"), 1e5])
def test_what_16_bits_cannot_hold_is_refused(plain: Path, tmp_path: Path, value: float, scenes: CachedScenes) -> None:
    folder = shard_folder(tmp_path, "tiny_train", (1, 1))
    shutil.copytree(shard_folder(plain, "tiny_train", (1, 1)), folder)
    cache = next(iter(CachedKnowledge(scenes.config("feature", plain)).caches.values()))
    (shard,) = cache.shards
    _, _, known = cache.read(shard.ids[0], mirror=False)
    features = {"conv5": known.features["conv5"].float()}
    features["conv5"][0, 0, 0, 0] = value
    damaged = RegionKnowledge(
        known.class_logits, known.detection_logits, known.selected, known.weights, features, known.map_sizes
    )
    with ShardWriter(folder, shard.header, np.array(shard.regions)) as writer:
        with pytest.raises(InputError, match="feature conv5 of image first is not finite in 16 bits"):
            writer.write(0, "first", (128, 128), [damaged])
