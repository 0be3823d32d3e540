from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from mlickd.data.checking.images import image_findings, image_kinds, inspect_images


@pytest.fixture
def records(tmp_path: Path) -> list[dict]:
    colors = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    colors.save(tmp_path / "turned.jpg", exif=exif)
    colors.convert("L").save(tmp_path / "gray.jpg")
    colors.convert("CMYK").save(tmp_path / "print.jpg")
    colors.convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(np.full((30, 40), 300, dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.ones((30, 40), dtype=np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "text.jpg").write_text("no image")
    names = ["turned.jpg", "gray.jpg", "print.jpg", "alpha.png", "deep.png", "float.tif", "text.jpg", "absent.jpg"]
    return [{"file_name": str(tmp_path / name), "image_id": name, "labels": []} for name in names]


def test_every_kind_is_counted(records: list[dict]) -> None:
    images = inspect_images(records, num_workers=2)
    assert image_kinds(images) == {
        "JPEG": 3, "PNG": 2, "turned by EXIF": 1, "gray": 1, "CMYK": 1, "with alpha": 1, "16-bit gray": 1,
    }  # fmt: skip
    assert (images[0].height, images[0].width) == (40, 30)
    assert all(image.thumbnail.shape == (16, 16, 3) for image in images if image.problem is None)


def test_what_cannot_be_used_is_an_error(records: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    error, alpha, deep = image_findings("pets", records, inspect_images(records))
    assert (error.severity, error.message) == ("error", "3 images cannot be used")
    for example, text in zip(error.examples, ("32-bit pixels", "unreadable", "not found"), strict=True):
        assert text in example
    assert (alpha.severity, deep.severity) == ("note", "note") and "on white" in alpha.message
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    warning = image_findings("pets", records[:1], inspect_images(records[:1]))[0]
    assert warning.severity == "warning" and "million pixels" in warning.message
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    bomb = image_findings("pets", records[:1], inspect_images(records[:1]))[0]
    assert bomb.severity == "error" and "MLICKD_MAX_PIXELS" in bomb.examples[0]
