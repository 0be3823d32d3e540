"""Caches are written in whole shards, and continued after a stop."""

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from helpers.cached_scenes import CachedScenes, samples
from mlickd.data import View
from mlickd.distillation import KnowledgeRequest
from mlickd.distillation.cache import CachedKnowledge, check_cache
from mlickd.errors import InputError
from mlickd.tensor_shards import Shard, write_shard


def contents(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def shards(cache: Path) -> list[Path]:
    return sorted((cache / "tiny_train").glob("*.safetensors"))


def test_a_stopped_command_continues_with_the_first_missing_shard(
    scenes: CachedScenes, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"

    def write_one(path: Path, *arguments: object) -> None:
        if shards(cache):
            path.with_name(f"{path.name}.0123.unfinished").touch()
            raise KeyboardInterrupt
        write_shard(path, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mlickd.distillation.cache.making.write_shard", write_one)
        scenes.make(str(cache), mirrored=False)
    (first,) = shards(cache)
    with pytest.raises(InputError, match="00001-of-00003.safetensors"):
        CachedKnowledge(scenes.config("feature", cache))
    before = first.stat().st_mtime_ns
    scenes.make(str(cache), mirrored=False)
    assert first.stat().st_mtime_ns == before
    assert contents(cache) == contents(scenes.make(str(tmp_path / "whole"), mirrored=False))


def test_parts_hold_what_the_whole_holds(
    scenes: CachedScenes, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (3, 1, 2):
        scenes.make(str(tmp_path / "parts"), part=(number, 3), mirrored=False)
    scenes.make(str(tmp_path / "parts"), part=(30, 30), mirrored=False)  # of 3 shards
    whole = scenes.make(str(tmp_path / "whole"), mirrored=False)
    assert len(shards(whole)) == 3 and contents(tmp_path / "parts") == contents(whole)
    cfg = scenes.config("feature", whole)
    batch = samples(cfg, [(index, View(32, mirror=index % 2 == 0)) for index in range(24)])
    assert [len(knowledge.boxes) > 0 for knowledge in CachedKnowledge(cfg)(batch)] == [True] * 24

    monkeypatch.setattr("mlickd.distillation.cache.making.FrozenTeacher", None)  # which cannot be called
    scenes.make(str(tmp_path / "whole"), mirrored=False)


def test_mirrored_views_are_kept_if_training_mirrors(scenes: CachedScenes, tmp_path: Path) -> None:
    for flip, mirrored, kept in (("horizontal", True, True), ("none", True, False), ("horizontal", False, False)):
        cache = tmp_path / f"{flip}-{mirrored}"
        scenes.make(str(cache), "INPUT.RANDOM_FLIP", flip, features=False, mirrored=mirrored)
        assert ("mirrored.class_logits" in load_file(*shards(cache))) == kept


def test_a_cache_of_image_scores_serves_only_stage_2(scenes: CachedScenes, tmp_path: Path) -> None:
    unused = ["KD.FEATURE.LAYERS", ("nowhere:conv5",)]
    cache = scenes.make(str(tmp_path), *unused, features=False, mirrored=False)
    with pytest.raises(InputError, match="features.conv5 missing, not pooled"):
        CachedKnowledge(scenes.config("feature", cache))
    cfg = scenes.config("prediction", cache, *unused)
    (knowledge,) = CachedKnowledge(cfg)(samples(cfg, [(0, View(32))]))
    assert knowledge.image_scores.shape == (20,) and knowledge.boxes is None


@pytest.mark.parametrize(
    ("options", "arguments", "key"),
    [
        (["KD.REGIONS.TOP_K", 5], {}, "KD.REGIONS.TOP_K 6, not 5"),
        ([], {"mirrored": True}, "mirrored False, not True"),
        (["INPUT.RANDOM_FLIP", "none"], {"batch_size": 5}, "batch_size 4, not 5"),
        ([], {"features": False}, "KD.REGIONS.TOP_K 6, not missing"),
    ],
)
def test_another_cache_is_never_changed(scenes: CachedScenes, plain: Path, options, arguments, key: str) -> None:
    before = contents(plain)
    with pytest.raises(InputError, match=key):
        scenes.make("plain", *options, **{"mirrored": False, **arguments})
    assert contents(plain) == before


def test_a_full_disk_ends_with_one_line(
    scenes: CachedScenes, plain: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**6, 10**6 - 2048, 2048))
    with pytest.raises(InputError, match=rf"{cache / 'tiny_train'}: needs . MiB more, but has 0 MiB"):
        scenes.make(str(cache), mirrored=False)
    assert len(shards(cache)) == 1  # its size is known
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/cache"):
        scenes.make(str(tmp_path / "file" / "cache"))


@pytest.mark.parametrize("value", [float("nan"), 1e5])
def test_outputs_beyond_16_bits_are_refused(
    scenes: CachedScenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def damage(self, known, *_):
        known[0].features["conv5"] = torch.full((1, 2), value)

    monkeypatch.setattr("mlickd.distillation.teacher.FrozenTeacher._add_regions", damage)
    with pytest.raises(InputError, match="features.conv5 of image "):
        scenes.make(str(tmp_path / "cache"), mirrored=False)


def test_damage_is_named(scenes: CachedScenes, plain: Path, tmp_path: Path) -> None:
    (path,) = shards(plain)
    copy = tmp_path / "tiny_train" / path.name
    copy.parent.mkdir()
    cfg = scenes.config("feature", tmp_path)
    tensors = load_file(path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 255
    copy.write_bytes(content)
    with pytest.raises(InputError, match=path.name):
        check_cache(cfg, KnowledgeRequest.for_stage(cfg))
    copy.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=path.name):
        CachedKnowledge(cfg)
    for name, tensor in (("original.region_weights", None), ("region_offsets", np.zeros(2))):
        damaged = {key: value for key, value in (tensors | {name: tensor}).items() if value is not None}
        write_shard(copy, damaged, Shard(path, "").read_metadata(), "")
        source = CachedKnowledge(cfg)
        with pytest.raises(InputError, match=path.name):
            source(samples(cfg, [(5, View(32))]))
