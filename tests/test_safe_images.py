"""Hostile images: too many pixels in a small file, and programs with the name of a photo."""

import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, ExifTags, Image, ImageFile, ImageOps, PngImagePlugin, features

from helpers.limits import in_little_memory, needs_limit
from mlickd.decoding import image_size, read_image, read_square
from mlickd.errors import InputError
from mlickd.safe_images import max_pixels, open_image_file

# Commands also ignore this warning.
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

READERS = [read_image, image_size, lambda path: read_square({"file_name": path}, 32)]


def assert_refused(path: Path, reason: str = "") -> None:
    for read in READERS:
        with pytest.raises(InputError, match=f"{path.name}: .*{reason}"):
            read(path)


def chunk(kind: bytes, data: bytes, damage: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ damage)


def write_png(path: Path, width: int, height: int, rows: int) -> Path:
    """Write a white PNG of one bit per pixel that ends after some rows."""

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\xff" * -(-width // 8)) * rows)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """Write an image of 2,500 million pixels in a few kilobytes."""
    path = write_png(tmp_path / "bomb.png", 50_000, 50_000, rows=1000)
    assert path.stat().st_size < 10_000
    return path


def test_a_bomb_is_refused_by_its_header(bomb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
    assert_refused(bomb, "MLICKD_MAX_PIXELS")


@needs_limit
def test_a_bomb_does_not_take_memory(bomb: Path) -> None:
    in_little_memory(assert_refused, bomb)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "ppm", "tif", "webp", "avif", "jp2"])
def test_every_format_is_read_up_to_the_limit(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optional = {"avif": "avif", "jp2": "jpg_2000"}.get(suffix)
    if optional is not None and optional not in features.get_supported():
        pytest.skip("this Pillow was built without it")
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (12, 10)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setenv("MLICKD_MAX_PIXELS", "119")
    assert_refused(path)
    monkeypatch.setenv("MLICKD_MAX_PIXELS", "120")
    with open_image_file(path) as image:
        assert image.size == (12, 10)
    with ThreadPoolExecutor(8) as pool:
        assert {pixels.shape for pixels in pool.map(read_image, [path] * 40)} == {(10, 12, 3)}


@pytest.mark.parametrize("limit", ["0", "-5", "1e8", ""])
def test_a_wrong_limit_is_named(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLICKD_MAX_PIXELS", limit)
    with pytest.raises(InputError, match="MLICKD_MAX_PIXELS"):
        max_pixels()


def test_a_program_with_the_name_of_a_photo_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow passes PostScript to Ghostscript, whatever the file name."""
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 8)).save(path, format="EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it was run"))
    with Image.open(path) as image:
        assert image.format == "EPS"
    assert_refused(path)


@pytest.mark.parametrize(
    ("content", "named"), [(b"", "empty"), (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"), (b"text", "format")]
)
def test_the_reason_of_a_refusal_is_named(content: bytes, named: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.jpg: .*{named}"):
        read_image(tmp_path / "a.jpg")


BIG = zlib.compress(bytes(2_000_000))
PARTS = {
    "zTXt": chunk(b"zTXt", b"XMP\0\0" + BIG),
    "iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BIG),
    "iCCP": chunk(b"iCCP", b"sRGB\0\0" + BIG),
    "tEXt: Too much": 6 * chunk(b"tEXt", b"a\0" + bytes(30_000)),
    **{f"{kind}: wrong": chunk(kind.encode(), b"a\0\0b", damage=1) for kind in ("tEXt", "iCCP", "gAMA", "abCd")},
    "Photoshop": b"\xff\xed\0\x16Photoshop 3.0\0008BIM\3\xed",
    "ICC_PROFILE": b"\xff\xe2\0\x0eICC_PROFILE\0",
    "JFIF": b"\xff\xe0\0\6JFIF",
    "Adobe": b"\xff\xee\0\7Adobe",
}


def encoded(image_format: str, mode: str = "RGB") -> bytes:
    """Return a file of 30x20 pixels that are upright as 20x30."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "maker"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, image_format, exif=exif)
    return file.getvalue()


def assert_left_out(path: Path, content: bytes, expected: np.ndarray, reason: str, caplog) -> None:
    caplog.clear()
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[:2]
    (message,) = (record.getMessage() for record in caplog.records)
    assert str(path) in message and reason in message


@pytest.mark.parametrize("reason", PARTS)
def test_metadata_that_cannot_be_read_is_left_out(reason: str, tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 100_000)
    image_format, start = ("PNG", 33) if reason[4:5] in ("", ":") and reason != "JFIF" else ("JPEG", 2)
    (tmp_path / "good").write_bytes(content := encoded(image_format, "L" if image_format == "PNG" else "CMYK"))
    pixels, end = read_image(tmp_path / "good"), content.rfind(b"IEND") - 4
    assert pixels.shape == (30, 20, 3)
    damaged = content[:start] + PARTS[reason] + content[start:]
    assert_left_out(tmp_path / "a", damaged, pixels, reason, caplog)
    if reason in ("zTXt", "iCCP"):
        assert_left_out(tmp_path / "b", content[:end] + PARTS[reason] + content[end:], pixels, reason, caplog)
        assert_left_out(tmp_path / "c", content[:end] + PARTS[reason][:-30], pixels, reason, caplog)
    (tmp_path / "a").write_bytes(damaged[: -len(content) // 2])
    with pytest.raises(InputError, match="a: "):
        read_image(tmp_path / "a")


def test_a_cut_chunk_of_webp_is_left_out(tmp_path: Path, caplog) -> None:
    with Image.open(io.BytesIO(encoded("WEBP"))) as image:
        image.save(tmp_path / "a", "WEBP", exif=image.getexif(), xmp=b"<x>" * 99, lossless=True)
        pixels = np.asarray(ImageOps.exif_transpose(image))
    content = (tmp_path / "a").read_bytes()
    assert_left_out(tmp_path / "a", content[:-100], pixels, "XMP", caplog)
    (tmp_path / "a").write_bytes(content[:200])
    assert_refused(tmp_path / "a")


@pytest.mark.parametrize("damage", [b"!\xfe\5", b"!\xfe\x60", b"!\xfe\xff", b"!\xff\x0bXMP DataXMP"])
def test_damaged_metadata_of_gif_is_left_out(damage: bytes, tmp_path: Path, caplog) -> None:
    with Image.open(io.BytesIO(encoded("PNG"))) as image:
        image.convert("P").save(tmp_path / "a", "GIF", comment=b"c" * 40)
    content, pixels = (tmp_path / "a").read_bytes(), read_image(tmp_path / "a")
    start, end = content.partition(b"!\xfe\x28")[::2]
    assert_left_out(tmp_path / "a", start + damage + end, pixels, "comment", caplog)


def test_gif_with_many_comments_is_refused_at_once(tmp_path: Path) -> None:
    for comments in (b"!\xfe" * 100_000, b"!\xfe\0!\xf9\x04" * 5000 + bytes(1_000_000)):
        (tmp_path / "a").write_bytes(b"GIF89a" + bytes([64, 0, 64, 0, 0, 0, 0]) + comments)
        start = time.process_time()
        assert_refused(tmp_path / "a")
        assert time.process_time() - start < 5  # minutes, if each comment is left out separately


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_field_of_tiff_outside_of_the_file_is_left_out(compression: str, tmp_path: Path, caplog) -> None:
    with Image.open(io.BytesIO(encoded("PNG"))) as image:
        image.save(tmp_path / "a", "TIFF", description="d" * 50, compression=compression)
    content, pixels = bytearray((tmp_path / "a").read_bytes()), read_image(tmp_path / "a")
    place = content.index(struct.pack("<HHI", 270, 2, 51)) + 8
    content[place : place + 4] = struct.pack("<I", 10**6)
    assert_left_out(tmp_path / "a", content, pixels, "tag 270", caplog)
    (tmp_path / "a").write_bytes(content[:100])
    assert_refused(tmp_path / "a")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_damaged_exif_is_left_out(image_format: str, tmp_path: Path, caplog) -> None:
    if image_format == "AVIF" and "avif" not in features.get_supported():
        pytest.skip("this Pillow was built without it")
    content = encoded(image_format)
    for header in (b"MM\0*", b"II*\0"):
        content = content.replace(header, b"XXXX")
    if image_format == "PNG":  # with a right checksum
        start = content.index(b"eXIf")
        content = content[: start - 4] + chunk(b"eXIf", b"XXXX") + content[content.index(b"IDAT") - 4 :]
    with Image.open(io.BytesIO(encoded(image_format))) as image:
        # Only AVIF has a second field for the orientation.
        pixels = np.asarray(ImageOps.exif_transpose(image) if image_format == "AVIF" else image)
    assert_left_out(tmp_path / "a", content, pixels, "E", caplog)
