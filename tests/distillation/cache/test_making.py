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
from mlickd.distillation.cache import CachedKnowledge, run_teacher, shard_folder
from mlickd.distillation.cache.writer import ShardWriter
from mlickd.distillation.regions import RegionKnowledge
from mlickd.errors import InputError

SLOWLY = """
import sys, time
from pathlib import Path
from helpers.cached_scenes import CachedScenes
from mlickd.distillation.cache.writer import ShardWriter

finish = ShardWriter.finish
ShardWriter.finish = lambda self, images: (finish(self, images), time.sleep(0.3))
folder, cache = map(Path, sys.argv[1:])
CachedScenes(folder, folder / "model_final.pth", folder / "proposals").make(str(cache), mirrored=True)
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
    (tmp_path / "slowly.py").write_text(SLOWLY)
    cache = tmp_path / "cache"
    process = subprocess.Popen([sys.executable, tmp_path / "slowly.py", scenes.folder, cache], env=environment())
    try:
        deadline = time.monotonic() + 60
        while done(cache) < 8:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(InputError, match="another process is writing this shard"):
            scenes.make(str(cache), mirrored=True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    before = done(cache)
    assert 8 <= before < 24
    with pytest.raises(InputError, match=rf"{24 - before} of 24 images are not done; give the command"):
        CachedKnowledge(scenes.config("feature", cache))
    with caplog.at_level(logging.INFO):
        scenes.make(str(cache), mirrored=True)
    assert f"{before} of 24 images were done before" in caplog.text
    assert contents(cache) == contents(scenes.make(str(tmp_path / "whole"), mirrored=True))


def test_a_whole_cache_is_not_made_again(scenes: CachedScenes, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(plain)
    monkeypatch.setattr("mlickd.distillation.cache.making.FrozenTeacher", None)  # which cannot be called
    scenes.make("plain")
    assert contents(plain) == before


def test_what_a_kill_leaves_before_the_header_is_made_again(scenes: CachedScenes, plain: Path, tmp_path: Path) -> None:
    folder = shard_folder(tmp_path, "tiny_train", (1, 1))
    shutil.copytree(shard_folder(plain, "tiny_train", (1, 1)), folder)
    (folder / "header.json").unlink()
    (folder / "boxes.npy").write_bytes(b"")
    scenes.make(str(tmp_path))
    assert contents(tmp_path) == contents(plain)


def test_shards_hold_what_the_whole_holds(scenes: CachedScenes, plain: Path, tmp_path: Path) -> None:
    for number in (3, 1):
        scenes.make(str(tmp_path), shard=(number, 3))
    cfg = scenes.config("feature", tmp_path)
    with pytest.raises(InputError, match=r"shard 2/3 is missing; make it with .* --shard 2/3"):
        CachedKnowledge(cfg)
    scenes.make(str(tmp_path), shard=(2, 3))
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
        ([], {"mirrored": True}, r"--mirrored \(False, not True\)"),
        ([], {"features": False}, "other settings of R'"),
    ],
)
def test_another_cache_is_never_overwritten(scenes: CachedScenes, plain: Path, options, arguments, message) -> None:
    before = contents(plain)
    with pytest.raises(InputError, match=rf"was begun with .*{message}.*; remove this folder, or choose"):
        scenes.make("plain", *options, **arguments)
    assert contents(plain) == before


def test_a_disk_that_is_too_small_is_refused_with_the_size(
    scenes: CachedScenes, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 2048, 2048))
    with pytest.raises(InputError, match=r"needs .* KiB more, and its disk has 2.0 KiB free") as error:
        scenes.make(str(tmp_path / "cache"))
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").rglob("*.npy"))
    scenes.make("plain")  # is there already, and needs nothing


def test_a_write_that_fails_ends_with_one_line_and_can_be_resumed(
    scenes: CachedScenes, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(*arguments: object) -> None:
        # No file may be written behind its 4096th byte, which fails as a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            run_teacher(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with monkeypatch.context() as patch:
        patch.setattr("mlickd.engine.caching.run_teacher", limited)
        with pytest.raises(InputError, match=r"cannot be written \(File too large\); make room") as error:
            scenes.make(str(tmp_path))
    assert "\n" not in str(error.value)
    scenes.make(str(tmp_path))
    assert contents(tmp_path) == contents(plain)


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
