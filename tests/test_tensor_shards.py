"""Shards are written atomically, equal for equal content, and refused if they are damaged."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlickd.errors import InputError
from mlickd.tensor_shards import Shard, ShardLayout, find_shards, write_shard

TENSORS = {"boxes": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "ends": np.array([1, 3])}


def written(folder: Path, count: int = 1) -> list[Path]:
    """Write the shards of a layout with ``count`` images."""
    layout = ShardLayout(count, 1)
    for index in range(count):
        write_shard(layout.path(folder, index), TENSORS, {"ids": ["a", "b"], "method": "m"}, "make it again")
    return [layout.path(folder, index) for index in range(count)]


@given(st.integers(0, 100), st.integers(1, 20), st.integers(1, 5))
def test_parts_of_a_layout_have_every_image_once(num_images: int, size: int, parts: int):
    layout = ShardLayout(num_images, size)
    indices = [index for part in range(1, parts + 1) for index in layout.indices((part, parts))]
    assert sorted(indices) == list(range(len(layout)))
    assert [image for index in sorted(indices) for image in layout.images(index)] == list(range(num_images))


def test_what_is_written_is_read(tmp_path: Path):
    (path,) = written(tmp_path)
    shard = pickle.loads(pickle.dumps(Shard(path, "make it again")))
    assert shard.read_metadata()["ids"] == ["a", "b"]
    with shard.open() as file:
        np.testing.assert_array_equal(file.get_slice("ends")[:], TENSORS["ends"])
        np.testing.assert_array_equal(file.get_slice("boxes")[1], TENSORS["boxes"][1])
    shard.check_digest()
    assert find_shards(tmp_path, "") == [path]


def test_a_folder_has_all_shards_of_one_layout(tmp_path: Path):
    with pytest.raises(InputError, match=str(tmp_path / "none")):
        find_shards(tmp_path / "none", "make it")
    with pytest.raises(InputError, match=str(tmp_path)):
        find_shards(tmp_path, "make it")
    paths = written(tmp_path, 3)
    paths[1].unlink()
    with pytest.raises(InputError, match=paths[1].name):
        find_shards(tmp_path, "make it")
    written(tmp_path, 2)
    with pytest.raises(InputError, match="2 files, 3 files"):
        find_shards(tmp_path, "make it")
