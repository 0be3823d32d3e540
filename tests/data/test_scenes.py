import hashlib
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from mlickd.data.scenes import dataset, draw_scene, ensure_scenes, write_scenes
from mlickd.errors import InputError


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def small(monkeypatch):
    """Let the dataset have a few small images."""
    monkeypatch.setattr(dataset, "COUNTS", {"train": 6, "test": 4})
    monkeypatch.setattr(dataset, "SIDE", 64)


def test_boxes_are_tight_around_visible_objects():
    overlaps = 0
    for index in range(60):
        scene = draw_scene(np.random.default_rng([5, index]), 96)
        assert scene.image.shape == (96, 96, 3) and scene.image.dtype == np.uint8
        assert 1 <= len(scene.categories) == len(scene.boxes) == len(scene.masks) <= 6
        assert scene.masks.sum(axis=0).max() <= 1  # each pixel shows at most one object
        overlaps += any(
            (np.maximum(a[:2], b[:2]) < np.minimum(a[2:], b[2:])).all() for a, b in combinations(scene.boxes, 2)
        )
        for (x0, y0, x1, y1), mask in zip(scene.boxes, scene.masks, strict=True):
            assert 0 <= x0 < x1 <= 96 and 0 <= y0 < y1 <= 96
            assert mask[y0:y1, x0:x1].sum() == mask.sum()
            assert all(side.any() for side in (mask[y0, :], mask[y1 - 1, :], mask[:, x0], mask[:, x1 - 1]))
            # The object differs from the pixels around it.
            ring = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7))).astype(bool) & ~scene.masks.any(axis=0)
            if ring.any():
                inside, around = (scene.image[pixels].astype(float) for pixels in (mask, ring))
                assert np.abs(inside - around.mean(axis=0)).max() > 25
    assert overlaps >= 5


def test_scenes_are_the_same_in_every_version():
    digest = hashlib.sha256()
    for index in range(20):
        scene = draw_scene(np.random.default_rng([1, index]), 128)
        # Unlike pixels, objects do not depend on the version of OpenCV.
        digest.update(scene.categories.tobytes() + scene.boxes.tobytes())
    assert digest.hexdigest()[:16] == "0930af28842d534c"


def test_an_image_depends_only_on_seed_split_and_index(tmp_path):
    for name, counts, seed in (("a", {"train": 3, "test": 2}, 3), ("b", {"train": 2}, 3), ("c", {"train": 2}, 4)):
        write_scenes(tmp_path / name, counts, side=64, seed=seed)
    a, b, c = (content(tmp_path / name) for name in "abc")
    assert a["images/train_00001.jpg"] == b["images/train_00001.jpg"] != c["images/train_00001.jpg"]
    assert a["images/train_00001.jpg"] != a["images/test_00001.jpg"]


def test_a_missing_dataset_is_drawn_once(tmp_path, small, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dataset, "draw_scene", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        ensure_scenes(tmp_path / "new")
    assert not (tmp_path / "new" / "scenes").exists()
    ensure_scenes(tmp_path)
    assert len(list((tmp_path / "scenes" / "images").iterdir())) == 10
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "write_scenes", None)  # a call would fail
        assert ensure_scenes(tmp_path) == tmp_path / "scenes"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["new", "scenes"]


def test_another_dataset_with_this_name_is_not_replaced(tmp_path, small):
    photo = tmp_path / "scenes" / "images" / "beach.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"photo")
    with pytest.raises(InputError, match=str(tmp_path / "scenes")):
        ensure_scenes(tmp_path)
    assert photo.read_bytes() == b"photo"
    with pytest.raises(InputError, match="DETECTRON2_DATASETS"):
        ensure_scenes(photo)  # cannot be written
