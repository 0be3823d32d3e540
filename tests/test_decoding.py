"""Pixels of all kinds of images equal Detectron2's where Detectron2 is right, also at a fraction of the size."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data import detection_utils
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile

from mlickd.data.mapper import MultiLabelMapper
from mlickd.data.views import View
from mlickd.decoding import RecordImage, image_size, read_image, read_square
from mlickd.errors import InputError
from mlickd.safe_images import TURNS

COLORS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
KINDS = {
    "jpg": ("RGB", "L", "CMYK"),
    "png": ("RGB", "L", "P", "1"),
    "tif": ("RGB", "L", "P", "1", "CMYK"),
    "webp": ("RGB",),
    "bmp": ("RGB", "L"),
    "gif": ("P", "L"),
}


def smooth(height: int, width: int) -> Image.Image:
    """Return an image without edges."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([255 * x / width, 255 * y / height, 0 * x], axis=2).astype(np.uint8))


def save(path: Path, image: Image.Image, turn: int | None = None, **options: object) -> Path:
    if turn is not None:
        options["exif"] = Image.Exif()
        options["exif"][ExifTags.Base.Orientation] = turn
    image.save(path, quality=95, **options)
    return path


def opened(path: Path, image_format: str = "RGB") -> RecordImage:
    return RecordImage({"file_name": str(path)}, image_format)


@pytest.mark.parametrize("suffix", KINDS)
def test_images_equal_those_of_detectron2(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    for image_format in ("RGB", "BGR"):
        for mode in KINDS[suffix]:
            Image.fromarray(COLORS).convert(mode).save(path)
            pixels = read_image(path, image_format)
            assert pixels.dtype == np.uint8
            np.testing.assert_array_equal(pixels, detection_utils.read_image(str(path), image_format))
    for turn in range(1, 9) if suffix in ("jpg", "png", "webp") else ():
        expected = detection_utils.read_image(str(save(path, Image.fromarray(COLORS), turn)), "RGB")
        np.testing.assert_array_equal(read_image(path), expected)
        assert image_size(path) == expected.shape[:2]


def test_a_tiff_is_turned_once(tmp_path: Path) -> None:
    for turn, transpose in TURNS.items():
        path = save(tmp_path / "a.tif", Image.fromarray(COLORS), turn)
        np.testing.assert_array_equal(read_image(path), np.asarray(Image.fromarray(COLORS).transpose(transpose)))
        assert image_size(path) == read_image(path).shape[:2]


def test_the_size_of_an_image_is_known_without_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save(tmp_path / name, Image.fromarray(COLORS), 6) for name in ("a.png", "a.jpg", "a.webp")]
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("the pixels are decoded"))
    assert [image_size(path) for path in paths] == 3 * [(40, 30)]


def test_16_bit_images_keep_their_tones(tmp_path: Path) -> None:
    gray = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    for name in ("gray.png", "gray.tif", "gray.pgm"):
        cv2.imwrite(str(tmp_path / name), gray)
        np.testing.assert_array_equal(read_image(tmp_path / name), np.stack([gray // 256] * 3, axis=2))
    cv2.imwrite(str(tmp_path / "deep.png"), np.tile(np.uint16([2560, 25600, 51200]), (8, 8, 1)))
    assert (read_image(tmp_path / "deep.png") == [200, 100, 10]).all()
    save(tmp_path / "turned.png", Image.fromarray(np.full((20, 30), 51200, dtype=np.uint16)), 6)
    pixels = read_image(tmp_path / "turned.png")
    assert pixels.shape == (30, 20, 3) and (pixels == 200).all()


def test_cmyk_becomes_its_printed_color_and_transparent_pixels_become_white(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 200, 100, 20)).save(tmp_path / "print.jpg", quality=100)
    expected = [(255 - ink) * (255 - 20) / 255 for ink in (0, 200, 100)]
    np.testing.assert_allclose(read_image(tmp_path / "print.jpg")[16, 16], expected, atol=3)

    pixels = np.full((8, 12, 4), 100, dtype=np.uint8)
    pixels[..., 3] = np.repeat([0, 128, 255], 4)
    for mode in ("RGBA", "LA"):
        Image.fromarray(pixels).convert(mode).save(tmp_path / "alpha.png")
        row = read_image(tmp_path / "alpha.png")[0, ::4, 0].astype(int)
        np.testing.assert_allclose(row, [255, 100 * 128 / 255 + 255 * 127 / 255, 100], atol=1)
    for mode in ("P", "RGB", "L"):
        image = Image.new("RGB", (8, 8), (9, 9, 9))
        image.paste((60, 60, 60), (0, 0, 4, 8))
        image = image.quantize(4) if mode == "P" else image.convert(mode)
        image.save(tmp_path / "hole.png", transparency=image.getpixel((7, 7)))
        pixels = read_image(tmp_path / "hole.png")
        assert (pixels[:, :4] == 60).all() and (pixels[:, 4:] == 255).all()


@settings(max_examples=20)
@given(st.integers(33, 130), st.integers(33, 130), st.sampled_from([2, 4, 8]))
def test_a_reduced_pixel_is_the_mean_of_its_pixels(tmp_path_factory, height, width, reduction) -> None:
    path = save(tmp_path_factory.mktemp("jpeg") / "a.jpg", smooth(height, width))
    file = opened(path)
    pixels, found = file.decode(reduction)
    assert found == reduction and pixels.shape == (-(-height // reduction), -(-width // reduction), 3)
    rows, columns = height // reduction, width // reduction
    whole = read_image(path)[: rows * reduction, : columns * reduction].astype(float)
    means = whole.reshape(rows, reduction, columns, reduction, 3).mean(axis=(1, 3))
    assert np.abs(pixels[:rows, :columns] - means).mean() < 2
    assert (file.height, file.width) == (height, width)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_reduced_image_is_upright(tmp_path: Path, turn: int) -> None:
    # The reader must find the orientation after other segments, and in XMP.
    xmp = f'<rdf:Description tiff:Orientation="{turn}"/>'.encode()
    plain = save(tmp_path / "a.jpg", smooth(64, 96), turn, icc_profile=bytes(range(256)) * 300, comment=b"\xff\xda")
    for path in (plain, save(tmp_path / "b.jpg", smooth(64, 96), xmp=xmp)):
        file = opened(path)
        pixels, reduction = file.decode(4)
        assert reduction == 4 and pixels.shape == (file.height // 4, file.width // 4, 3)
        whole = read_image(path).astype(int)
        assert whole.shape[:2] == (file.height, file.width) == ((96, 64) if turn >= 5 else (64, 96))
        assert np.abs(whole[2::4, 2::4] - pixels).max() < 12


def test_only_rgb_jpegs_with_whole_last_pixels_are_reduced(tmp_path: Path) -> None:
    # If the last pixel is incomplete, turning the image would shift all other pixels.
    for size, turn, expected in (((60, 90), 3, 2), ((61, 90), 3, 1), ((61, 90), 1, 8)):
        assert opened(save(tmp_path / "a.jpg", smooth(*size), turn)).decode(8)[1] == expected
    smooth(64, 64).save(tmp_path / "a.png")
    smooth(64, 64).convert("CMYK").save(tmp_path / "inks.jpg")
    for file in (opened(tmp_path / "a.png"), opened(tmp_path / "inks.jpg"), RecordImage({"pixels": COLORS})):
        pixels, reduction = file.decode(4)
        assert pixels.shape == (file.height, file.width, 3) and reduction == 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.9])
def test_truncated_files_are_named_and_added_bytes_ignored(tmp_path: Path, suffix: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    content, pixels = path.read_bytes(), read_image(path)
    path.write_bytes(content + b"written by some camera")
    np.testing.assert_array_equal(read_image(path), pixels)
    path.write_bytes(content[: int(keep * len(content))])
    for reduction in (1, 2, 8):
        with pytest.raises(InputError, match=str(path)):
            opened(path).decode(reduction)


def test_files_that_are_not_images_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), dtype=np.float32)).save(tmp_path / "depth.tif")
    for name in ("absent.png", "depth.tif", "."):
        with pytest.raises(InputError, match=str(tmp_path / name)):
            read_image(tmp_path / name)
    with pytest.raises(InputError, match=r"uint8"):
        RecordImage({"pixels": np.zeros((4, 4))})


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(64, 48), (640, 480), (517, 389)], ids=str)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_an_exported_student_reads_the_pixels_of_an_evaluation(tmp_path: Path, size, suffix, orientation) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    record = {"file_name": str(tmp_path / f"photo.{suffix}"), "image_id": 0}
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(record["file_name"], exif=exif, quality=90)
    expected = MultiLabelMapper()(record, View(48))["image"].numpy().transpose(1, 2, 0)
    found = read_square(record, 48)
    assert found.shape == (48, 48, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 2
