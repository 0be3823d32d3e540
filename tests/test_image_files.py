"""Images that may be made to do harm: too many pixels in a small file, and files that are programs."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import EpsImagePlugin, Image, ImageFile, features

from helpers.forked_runs import fork, wait_or_kill
from helpers.little_memory import in_little_memory, needs_limit
from mlickd.data.reading import ImageFile as DecodedFile
from mlickd.data.reading import read_image
from mlickd.data.records import image_size
from mlickd.data.verify import image_problem
from mlickd.errors import InputError
from mlickd.export import read_photo
from mlickd.image_files import most_pixels, open_image_file

# Large pictures are what these tests are about; commands silence it, too.
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

# Each reads a file in a way of its own.
READERS = [read_image, image_size, lambda path: read_photo(path, 32)]


def write_png(path: Path, width: int, height: int, rows: int) -> Path:
    """A white PNG of one bit a pixel, of which only the first rows are there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\xff" * -(-width // 8)) * rows)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """2,500 million pixels in a few kilobytes."""
    path = write_png(tmp_path / "bomb.png", 50_000, 50_000, rows=1000)
    assert path.stat().st_size < 10_000
    return path


@pytest.mark.parametrize("read", READERS)
def test_a_bomb_is_refused_by_its_header(read, bomb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match=r"bomb\.png: has more than 179 million pixels.*set MLICKD_MAX_PIXELS"):
        read(bomb)
    assert "bomb.png: has more than 179 million pixels" in image_problem({"file_name": bomb})


@needs_limit
@pytest.mark.parametrize("reader", range(len(READERS)))
def test_a_bomb_takes_no_memory(bomb: Path, reader: int) -> None:
    assert "has more than 179 million pixels" in in_little_memory(said_of, reader, bomb)


def said_of(reader: int, path: Path) -> str:
    """What a reader says of an image."""
    try:
        READERS[reader](path)
    except InputError as error:
        return str(error)
    return "it was read"


def test_a_hundred_megapixels_are_legal(tmp_path: Path) -> None:
    """More than half of the limit, of which Pillow warns."""
    pixels = np.full((9_000, 12_000, 1), 80, dtype=np.uint8)
    path = tmp_path / "large.jpg"
    path.write_bytes(simplejpeg.encode_jpeg(pixels, colorspace="GRAY", fastdct=True))
    del pixels
    reduced, reduction = DecodedFile(path).pixels(8)
    assert reduction == 8 and reduced.shape == (1125, 1500, 3) and abs(int(reduced.mean()) - 80) <= 1
    assert image_size(path) == (9000, 12000) and image_problem({"file_name": path}) is None
    assert read_photo(path, 224).shape == (224, 224, 3)


@pytest.mark.parametrize(("limit", "read"), [("120", True), ("119", False)])
def test_the_limit_can_be_set(limit: str, read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLICKD_MAX_PIXELS", limit)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in ("a.png", "a.jpg"):
        path = tmp_path / name
        Image.new("RGB", (12, 10)).save(path)
        if read:
            assert read_image(path).shape == (10, 12, 3) and image_problem({"file_name": path}) is None
        else:
            for reader in READERS:
                with pytest.raises(InputError, match=f"{name}: has more than 0 million pixels"):
                    reader(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "webp", "bmp"])
def test_pillows_own_limit_is_raised_for_our_pictures_alone(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLICKD_MAX_PIXELS", "120")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (12, 10)).save(path)
    with open_image_file(path) as first:
        with open_image_file(path) as second:
            second.load()
        first.load()  # a TIFF is judged here once more
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    monkeypatch.setenv("MLICKD_MAX_PIXELS", "119")
    with pytest.raises(Image.DecompressionBombError), open_image_file(path):
        pytest.fail("it was opened")
    assert Image.MAX_IMAGE_PIXELS == 10


def test_pictures_are_opened_in_threads_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLICKD_MAX_PIXELS", "120")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = tmp_path / "a.tif"
    Image.new("RGB", (12, 10)).save(path)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(image_problem, [{"file_name": path}] * 400)) == {None}
    assert Image.MAX_IMAGE_PIXELS == 10


def test_pillows_warning_stays_that_of_the_program(tmp_path: Path) -> None:
    """Commands say nothing of a photo that is large and legal; a program that uses this project decides itself."""
    path = write_png(tmp_path / "large.png", 10_000, 10_000, rows=0)
    code = f"""
import sys
from mlickd.data.records import image_size
from mlickd.errors import run_tool
read = lambda: image_size({str(path)!r})
run_tool(read) if sys.argv[1:] else read()
"""
    said = [
        subprocess.run([sys.executable, "-c", code, *argument], capture_output=True, text=True, check=True).stderr
        for argument in ([], ["as a command"])
    ]
    assert "DecompressionBombWarning" in said[0] and said[1] == ""


@pytest.mark.parametrize("limit", ["0", "-5", "many", "1e8", ""])
def test_a_limit_that_is_none_is_refused(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLICKD_MAX_PIXELS", limit)
    with pytest.raises(InputError, match="MLICKD_MAX_PIXELS .*: is no number of pixels; give one"):
        most_pixels()


@pytest.mark.parametrize("read", READERS)
def test_a_program_that_is_called_a_photo_is_not_run(read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 8)).save(path, format="EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it was run"))
    with Image.open(path) as image:
        assert image.format == "EPS"
    with pytest.raises(InputError, match=r"photo\.jpg: .*replace"):
        read(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "ppm", "tif", "webp", "avif", "jp2"])
def test_every_format_of_photos_is_opened(suffix: str, tmp_path: Path) -> None:
    optional = {"avif": "avif", "jp2": "jpg_2000"}.get(suffix)
    if optional is not None and optional not in features.get_supported():
        pytest.skip("this Pillow has been built without it")
    Image.new("RGB", (6, 4), "red").save(tmp_path / f"a.{suffix}")
    with open_image_file(tmp_path / f"a.{suffix}") as image:
        assert image.size == (6, 4)
    assert read_image(tmp_path / f"a.{suffix}").shape == (4, 6, 3)


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="no processes are forked")
def test_a_process_that_is_forked_meanwhile_has_pillows_own_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    own = Image.MAX_IMAGE_PIXELS
    monkeypatch.setenv("MLICKD_MAX_PIXELS", str(8 * own))

    def work() -> None:
        assert own == Image.MAX_IMAGE_PIXELS
        read_image(tmp_path / "a.png")
        assert own == Image.MAX_IMAGE_PIXELS

    with open_image_file(tmp_path / "a.png"):
        assert own < Image.MAX_IMAGE_PIXELS
        assert wait_or_kill(fork(work, tmp_path / "log"), 60) == 0, (tmp_path / "log").read_text()
    assert own == Image.MAX_IMAGE_PIXELS
