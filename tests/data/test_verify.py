from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mlickd.data.records import image_size
from mlickd.data.verify import unreadable_images, verify_images
from mlickd.errors import InputError


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.{suffix}" for i, suffix in enumerate(["jpg", "png", "jpg", "webp", "jpg"])]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path)
    return paths


def _records(paths):
    return [{"file_name": str(path), "image_id": path.name, "height": 60, "width": 80} for path in paths]


def test_good_images_pass(photos):
    assert verify_images(_records(photos)) is None
    assert verify_images([]) is None


@pytest.mark.parametrize("index", [0, 1, 3])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.9], ids=["empty", "stub", "half", "most"])
def test_truncated_images_are_found(photos, index, keep):
    content = photos[index].read_bytes()
    photos[index].write_bytes(content[: keep if keep > 1 else int(keep * len(content))])
    with pytest.raises(InputError, match=rf"{photos[index].name}: unreadable or truncated"):
        verify_images(_records(photos))


def test_the_first_bad_file_is_named_and_all_are_listed(photos):
    photos[1].write_text("text")
    photos[4].unlink()
    records = _records(photos)
    with pytest.raises(InputError, match=r"1\.png: unreadable"):
        verify_images(records, num_workers=4)
    problems = dict(unreadable_images(records))
    assert list(problems) == [1, 4] and "not found" in problems[4]


def test_a_size_that_is_not_the_records_is_found(photos):
    records = _records(photos)
    records[2]["width"] = 81
    with pytest.raises(InputError, match=r"2\.jpg: the image is 80x60 pixels, its record says 81x60"):
        verify_images(records)


def test_sizes_follow_the_orientation(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (80, 60)).save(tmp_path / "turned.jpg", exif=exif)
    height, width = image_size(tmp_path / "turned.jpg")
    assert (height, width) == (80, 60)
    verify_images([{"file_name": str(tmp_path / "turned.jpg"), "height": height, "width": width}])
