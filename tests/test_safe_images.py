"""Hostile images: too many pixels in a small file, and programs with the name of a photo."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image, ImageFile, features

from helpers.limits import in_little_memory, needs_limit
from mlickd.data.decoding import image_size, read_image
from mlickd.errors import InputError
from mlickd.export import read_photo
from mlickd.safe_images import max_pixels, open_image_file

# Commands also ignore this warning.
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

READERS = [read_image, image_size, lambda path: read_photo(path, 32)]


def assert_refused(path: Path, reason: str = "") -> None:
    for read in READERS:
        with pytest.raises(InputError, match=f"{path.name}: .*{reason}"):
            read(path)


def write_png(path: Path, width: int, height: int, rows: int) -> Path:
    """Write a white PNG of one bit per pixel that ends after some rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

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
    for wrong in ("0", "-5", "1e8", ""):
        monkeypatch.setenv("MLICKD_MAX_PIXELS", wrong)
        with pytest.raises(InputError, match="MLICKD_MAX_PIXELS"):
            max_pixels()
    monkeypatch.setenv("MLICKD_MAX_PIXELS", "120")
    with open_image_file(path) as image:
        assert image.size == (12, 10)
    with ThreadPoolExecutor(8) as pool:
        assert {pixels.shape for pixels in pool.map(read_image, [path] * 40)} == {(10, 12, 3)}


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
