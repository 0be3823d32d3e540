"""Copies are found however they were saved, and other photos are not taken for copies."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from mlickd.data import dataset_records
from mlickd.data.checking import duplicates
from mlickd.data.checking.duplicates import duplicate_findings, same_files, similar_pairs
from mlickd.data.checking.images import ImageFacts, inspect_images


def picture(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def records(*paths: Path) -> list[dict]:
    return [{"file_name": str(path), "image_id": path.name, "labels": []} for path in paths]


def test_copies_in_other_forms_are_similar(tmp_path: Path) -> None:
    original = picture(0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    paths = [tmp_path / name for name in ("a.png", "b.jpg", "c.webp", "d.jpg", "e.png", "other.png")]
    original.save(paths[0])
    original.save(paths[1], quality=60)
    original.save(paths[2], quality=80)
    original.resize((320, 240), Image.Resampling.BICUBIC).save(paths[3], quality=90)
    original.transpose(Image.Transpose.ROTATE_90).save(paths[4], exif=exif)
    picture(1).save(paths[5])
    images = inspect_images(records(*paths))
    assert same_files(images) == []
    assert similar_pairs(images) == list(combinations(range(5), 2))


def test_pairs_are_those_of_a_comparison_of_all_with_all(tmp_path: Path) -> None:
    paths = []
    for seed in range(30):
        paths.append(tmp_path / f"{seed}.jpg")
        picture(seed // 3 if seed % 3 else 100 + seed).save(paths[-1], quality=70 + 5 * (seed % 3))
    images = inspect_images(records(*paths))
    expected = []
    for i, j in combinations(range(30), 2):
        difference = np.abs(images[i].thumbnail.astype(int) - images[j].thumbnail.astype(int))
        if (images[i].hash ^ images[j].hash).bit_count() <= 3 and difference.mean() <= 3 and difference.max() <= 30:
            expected.append((i, j))
    assert similar_pairs(images) == expected == [(i, i + 1) for i in range(1, 30, 3)]


def test_a_crowd_takes_bounded_time_and_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_CROWD", 100)
    monkeypatch.setattr(duplicates, "_NEIGHBORS", 5)
    blank = np.full((16, 16, 3), 255, dtype=np.uint8)
    images = [ImageFacts(digest=str(i).encode(), thumbnail=blank) for i in range(300)]
    assert duplicates.crowded(images) == list(range(300))
    assert len(similar_pairs(images)) == 299 * 5 - sum(range(5))
    items = [{"file_name": f"{i}.png", "image_id": i, "labels": []} for i in range(300)]
    note = duplicate_findings({"scans": items}, {"scans": images})[-1]
    assert note.severity == "note" and note.message.startswith("300 images are much like more than 100 others")
    assert duplicates.crowded(images[:100]) == [] and len(similar_pairs(images[:100])) == 100 * 99 // 2


def test_scenes_are_all_different(tiny_scenes: Path) -> None:
    images = inspect_images(dataset_records("tiny_train"))
    assert same_files(images) == [] and similar_pairs(images) == []


def test_findings_tell_a_leak_from_a_copy(tmp_path: Path) -> None:
    for name in ("a.png", "a again.png", "a in test.png"):
        picture(0).save(tmp_path / name)
    picture(1).save(tmp_path / "b.png")
    picture(1).save(tmp_path / "b in test.jpg", quality=90)
    picture(2).save(tmp_path / "shared.png")
    train = records(*(tmp_path / name for name in ("a.png", "a again.png", "b.png", "shared.png")))
    test = records(*(tmp_path / name for name in ("a in test.png", "b in test.jpg", "shared.png")))
    train[1]["labels"] = [3]
    test[0]["image_id"] = "b.png"
    splits = {"train": train, "test": test}
    images = {name: inspect_images(split) for name, split in splits.items()}
    found = {(f.severity, f.message.split(":")[0]): list(f.examples) for f in duplicate_findings(splits, images)}
    assert found == {
        ("warning", "1 pair of equal files, 1 of them with different labels"): ["a.png = a again.png"],
        ("error", "2 pairs of equal files in train and in test"): ["a.png = a in test.png", "shared.png = shared.png"],
        ("warning", "1 pair of images that look the same in train and in test"): ["b.png = b in test.jpg"],
        ("error", "1 image file is listed in test, too"): [str(tmp_path / "shared.png")],
        ("note", "1 image id stands for another image in test"): ["b.png"],
    }
