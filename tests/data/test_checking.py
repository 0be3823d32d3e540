"""Copies of an image in any format are found, and statistics of labels equal plain counts."""

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from mlickd.data import dataset_records, proposals_path, write_store
from mlickd.data.checking.image_checks import check_images, equal_files, near_duplicates
from mlickd.data.checking.split_checks import check_proposals
from mlickd.data.proposals.store import image_list_digest


def image(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC))


def records(folder: Path, *names: str) -> list[dict]:
    return [{"file_name": str(folder / name), "image_id": name, "labels": []} for name in names]


def pairs(found) -> list[tuple[str, str]]:
    return [(first["image_id"], second["image_id"]) for first, second in found]


def test_only_copies_in_other_formats_and_sizes_are_similar(tmp_path: Path, tiny_scenes: Path) -> None:
    original, exif = image(0), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    original.save(tmp_path / "a.png")
    original.save(tmp_path / "b.jpg", quality=60)
    original.save(tmp_path / "c.webp", quality=80)
    original.resize((320, 240), Image.Resampling.BICUBIC).save(tmp_path / "d.jpg", quality=90)
    original.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "e.png", exif=exif)
    image(1).save(tmp_path / "other.png")
    for first, second in combinations(["a.png", "b.jpg", "c.webp", "d.jpg", "e.png"], 2):
        one, two = (check_images(records(tmp_path, name, "other.png")[:1]) for name in (first, second))
        both = check_images(records(tmp_path, "other.png", first, second))
        assert pairs(near_duplicates(one, two)) == pairs(near_duplicates(both, both)) == [(first, second)]
        assert not list(equal_files(both, both))
    scenes = check_images(dataset_records("tiny_train"))
    assert not [*near_duplicates(scenes, scenes), *equal_files(scenes, scenes), *near_duplicates(scenes, [])]


def test_equal_files_are_paired_with_the_first_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        image(0).save(tmp_path / name)
    image(1).save(tmp_path / "d.png")
    images = check_images(records(tmp_path, "a.png", "b.png", "c.png", "d.png"))
    assert pairs(equal_files(images, images)) == [("a.png", "b.png"), ("a.png", "c.png")]
    assert pairs(equal_files(images[1:2], images[2:])) == [("b.png", "c.png")]
    assert not list(near_duplicates(images, images))


def test_problems_of_images_are_found(tmp_path: Path) -> None:
    colors = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    colors.save(tmp_path / "turned.jpg", exif=exif)
    colors.convert("LA").save(tmp_path / "alpha.png")
    colors.convert("CMYK").save(tmp_path / "print.jpg")
    Image.fromarray(np.full((30, 40), 300, dtype=np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "turned.jpg").read_bytes()[:-500])
    names = ["turned.jpg", "alpha.png", "print.jpg", "deep.png", "cut.jpg", "absent.jpg"]
    images = check_images([*records(tmp_path, *names), {**records(tmp_path, "turned.jpg")[0], "height": 30}], 2)
    assert [each.problem is None for each in images] == 4 * [True] + 3 * [False]
    assert all(name in each.problem for name, each in zip([*names[4:], "turned.jpg"], images[4:], strict=True))


def test_stores_of_proposals_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    items = [{**record, "height": 30, "width": 40} for record in records(tmp_path, "a.png", "b.png")]
    boxes = [(record["image_id"], np.array([[0, 0, 9, 9]]), np.array([0.5])) for record in items]
    stores = [("train", "mcg"), ("train", "edge_boxes"), ("train", "deep_boxes")]
    for name, method in (*stores, ("train_small", "edge_boxes"), ("train_small", "mcg")):
        write_store(proposals_path(name, method), boxes, method, {}, image_list_digest(items))
    assert not list(check_proposals("train", items)) and not list(check_proposals("train", items[:1], complete=False))
    assert [finding.severity for finding in check_proposals("train", items[:1])] == 3 * ["warning"]
    (shard,) = proposals_path("train", "mcg").iterdir()
    shard.write_bytes(shard.read_bytes().replace(np.float32(0.5).tobytes(), np.float32(0.25).tobytes()))
    (found,) = check_proposals("train", items)
    assert found.severity == "error" and str(shard) in found.message
