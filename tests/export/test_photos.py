import numpy as np
import pytest
from PIL import Image

from mlickd.data import MultiLabelMapper, View
from mlickd.errors import InputError
from mlickd.export import read_photo, resize_photo


def smooth_photo(width: int, height: int) -> Image.Image:
    """Structure of some pixels, as in a photo, and none of one."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("size", [(64, 48), (304, 200), (640, 480), (517, 389)], ids=str)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_the_pixels_are_those_of_an_evaluation_up_to_rounding(tmp_path, size, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{suffix}"
    smooth_photo(*size).save(path, exif=exif, quality=90)
    ours = MultiLabelMapper()({"file_name": str(path), "image_id": 0}, View(48))["image"].numpy().transpose(1, 2, 0)
    read = read_photo(path, 48)
    assert read.shape == (48, 48, 3) and read.dtype == np.uint8
    difference = np.abs(read.astype(int) - ours)
    # Turned photos whose sides do not divide are decoded at another size by the project.
    turned = orientation != 1 and any(side % 8 for side in size)
    assert difference.mean() < (3 if turned else 0.5) and difference.max() <= (20 if turned else 2)


def test_a_decoded_photo_is_warped_by_the_same_call(tmp_path):
    smooth_photo(90, 70).save(tmp_path / "photo.png")
    image = np.array(Image.open(tmp_path / "photo.png"))
    np.testing.assert_array_equal(resize_photo(image, 32), read_photo(tmp_path / "photo.png", 32))
    assert resize_photo(image[:32, :32], 32).tolist() == image[:32, :32].tolist()


def test_what_is_no_photo_is_named(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8 no photo")
    with pytest.raises(InputError, match="photo.jpg: cannot be read as an image"):
        read_photo(tmp_path / "photo.jpg", 32)
    with pytest.raises(InputError, match="other.jpg: image file not found"):
        read_photo(tmp_path / "other.jpg", 32)
