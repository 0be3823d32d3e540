"""Pixels of every kind of image: those of Detectron2 where they are right, and what they should be where not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data import detection_utils
from PIL import ExifTags, Image

from mlickd.data.reading import read_image
from mlickd.errors import InputError

COLORS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


KINDS = {
    "jpg": ("RGB", "L", "CMYK"),
    "png": ("RGB", "L", "P", "1"),
    "tif": ("RGB", "L", "P", "1", "CMYK"),
    "webp": ("RGB",),
    "bmp": ("RGB", "L"),
    "gif": ("P", "L"),
}


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in KINDS.items() for mode in modes])
def test_common_images_are_those_of_detectron2(tmp_path: Path, suffix: str, mode: str, image_format: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLORS).convert(mode).save(path)
    expected = detection_utils.read_image(str(path), image_format)
    pixels = read_image(path, image_format)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("turn", range(1, 9))
def test_turned_images_are_those_of_detectron2(tmp_path: Path, turn: int) -> None:
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    Image.fromarray(COLORS).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path), detection_utils.read_image(str(path), "RGB"))


@pytest.mark.parametrize("name", ["gray.png", "gray.tif", "gray.pgm"])
def test_16_bit_gray_keeps_its_grays(tmp_path: Path, name: str) -> None:
    gray = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    path = tmp_path / name
    cv2.imwrite(str(path), gray)
    np.testing.assert_array_equal(read_image(path), np.repeat((gray // 256).astype(np.uint8)[..., None], 3, axis=2))


def test_16_bit_gray_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.full((20, 30), 51200, dtype=np.uint16)).save(tmp_path / "turned.png", exif=exif)
    pixels = read_image(tmp_path / "turned.png")
    assert pixels.shape == (30, 20, 3) and (pixels == 200).all()


def test_16_bit_color_keeps_its_colors(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), np.tile(np.uint16([2560, 25600, 51200]), (8, 8, 1)))
    assert (read_image(tmp_path / "deep.png") == [200, 100, 10]).all()


def test_cmyk_becomes_the_color_that_it_prints(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 200, 100, 20)).save(tmp_path / "print.jpg", quality=100)
    cyan, magenta, yellow, black = 0, 200, 100, 20
    expected = [(255 - ink) * (255 - black) / 255 for ink in (cyan, magenta, yellow)]
    np.testing.assert_allclose(read_image(tmp_path / "print.jpg")[16, 16], expected, atol=3)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    pixels = np.zeros((8, 12, 4), dtype=np.uint8)
    pixels[..., :3] = 100
    pixels[:, 4:8, 3], pixels[:, 8:, 3] = 128, 255
    Image.fromarray(pixels).convert(mode).save(tmp_path / "alpha.png")
    row = read_image(tmp_path / "alpha.png")[0, ::4, 0].astype(int)
    np.testing.assert_allclose(row, [255, 100 * 128 / 255 + 255 * 127 / 255, 100], atol=1)


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_transparent_color_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (8, 8), (9, 9, 9))
    image.paste((60, 60, 60), (0, 0, 4, 8))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "hole.png", transparency=image.getpixel((7, 7)))
    pixels = read_image(tmp_path / "hole.png")
    assert (pixels[:, :4] == 60).all() and (pixels[:, 4:] == 255).all()


def test_an_opaque_alpha_channel_changes_nothing(tmp_path: Path) -> None:
    Image.fromarray(COLORS).convert("RGBA").save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_image(tmp_path / "opaque.png"), COLORS)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.ones((8, 8), dtype=kind)).save(tmp_path / "depth.tif")
    with pytest.raises(InputError, match=r"depth\.tif: cannot be read as an image \(32-bit pixels"):
        read_image(tmp_path / "depth.tif")


def test_what_is_not_a_good_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"absent\.png: image file not found"):
        read_image(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match=r"text\.png: cannot be read as an image"):
        read_image(tmp_path / "text.png")
    Image.fromarray(COLORS).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(InputError, match=r"bomb\.png: has more than .* pixels"):
        read_image(tmp_path / "bomb.png")
