"""JPEG at a fraction of its size: the whole picture, upright, and nothing that is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from mlickd.data.jpeg import Jpeg
from mlickd.data.reading import ImageFile, read_image
from mlickd.errors import InputError


def smooth(height: int, width: int) -> Image.Image:
    """A picture without edges, of which every pixel tells where it is."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([255 * x / width, 255 * y / height, 0 * x], axis=2).astype(np.uint8))


def save(path: Path, image: Image.Image, turn: int | None = None, **options: object) -> Path:
    if turn is not None:
        options["exif"] = Image.Exif()
        options["exif"][ExifTags.Base.Orientation] = turn
    image.save(path, quality=95, **options)
    return path


@settings(max_examples=25)
@given(st.integers(33, 130), st.integers(33, 130), st.sampled_from([2, 4, 8]))
def test_a_reduced_pixel_is_the_mean_of_those_it_stands_for(tmp_path_factory, height, width, reduction) -> None:
    path = save(tmp_path_factory.mktemp("jpeg") / "a.jpg", smooth(height, width))
    file = ImageFile(path)
    pixels, found = file.pixels(reduction)
    assert found == reduction and pixels.shape == (-(-height // reduction), -(-width // reduction), 3)
    rows, columns = height // reduction, width // reduction
    whole = read_image(path)[: rows * reduction, : columns * reduction].astype(float)
    means = whole.reshape(rows, reduction, columns, reduction, 3).mean(axis=(1, 3))
    assert np.abs(pixels[:rows, :columns] - means).mean() < 2
    assert (file.height, file.width) == (height, width)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_reduced_picture_is_upright(tmp_path: Path, turn: int) -> None:
    path = save(tmp_path / "a.jpg", smooth(64, 96), turn)
    file = ImageFile(path)
    pixels, reduction = file.pixels(4)
    assert reduction == 4 and pixels.shape == (file.height // 4, file.width // 4, 3)
    whole = read_image(path).astype(int)
    assert whole.shape[:2] == (file.height, file.width) == ((96, 64) if turn >= 5 else (64, 96))
    assert np.abs(whole[2::4, 2::4] - pixels).max() < 12


def test_a_turned_picture_is_reduced_only_where_no_pixel_is_cut(tmp_path: Path) -> None:
    file = ImageFile(save(tmp_path / "a.jpg", smooth(60, 90), 3))
    assert file.pixels(8)[1] == 2
    assert ImageFile(save(tmp_path / "b.jpg", smooth(61, 90), 3)).pixels(8)[1] == 1
    assert ImageFile(save(tmp_path / "c.jpg", smooth(61, 90))).pixels(8)[1] == 8


def test_other_formats_come_whole(tmp_path: Path) -> None:
    smooth(64, 64).save(tmp_path / "a.png")
    smooth(64, 64).convert("CMYK").save(tmp_path / "inks.jpg")
    for name in ("a.png", "inks.jpg"):
        pixels, reduction = ImageFile(tmp_path / name).pixels(4)
        assert pixels.shape == (64, 64, 3) and reduction == 1


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_channels_are_in_the_order_that_is_asked_for(tmp_path: Path, image_format: str) -> None:
    path = save(tmp_path / "red.jpg", Image.new("RGB", (32, 32), (200, 10, 10)))
    for reduction in (1, 2):
        pixels, _ = ImageFile(path, image_format).pixels(reduction)
        assert pixels[..., image_format.index("R")].min() > 190 and pixels.flags.c_contiguous


def test_gray_has_three_equal_channels_at_every_size(tmp_path: Path) -> None:
    path = save(tmp_path / "gray.jpg", smooth(64, 64).convert("L"))
    for reduction in (1, 8):
        pixels, _ = ImageFile(path).pixels(reduction)
        assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("reduction", [1, 2, 8])
def test_a_truncated_picture_is_refused_at_every_size(tmp_path: Path, reduction: int) -> None:
    path = save(tmp_path / "a.jpg", smooth(300, 300))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"a\.jpg: cannot be read as an image .*truncated"):
        ImageFile(path).pixels(reduction)


def test_what_does_no_harm_is_overlooked(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", smooth(64, 64))
    expected = read_image(path)
    path.write_bytes(path.read_bytes() + b"left by some camera")
    np.testing.assert_array_equal(read_image(path), expected)


def test_a_picture_too_large_to_be_safe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "bomb.jpg", smooth(64, 64))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 250)
    with pytest.raises(InputError, match=r"bomb\.jpg: has more than .* pixels"):
        ImageFile(path)


def test_a_turn_is_found_behind_other_segments(tmp_path: Path) -> None:
    profile = bytes(range(256)) * 300  # two segments
    path = save(tmp_path / "a.jpg", smooth(64, 96), 6, icc_profile=profile, comment=b"\xff\xda")
    jpeg = Jpeg.parse(path.read_bytes())
    assert (jpeg.height, jpeg.width) == (96, 64)


def test_what_is_no_jpeg_is_left_to_pillow() -> None:
    assert Jpeg.parse(b"") is None and Jpeg.parse(b"\x89PNG") is None and Jpeg.parse(b"\xff\xd8\xff") is None
