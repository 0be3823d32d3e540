"""Images of bytes to a normalized batch, against Detectron2's ImageList and plain arithmetic."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import ImageList
from torch import nn

from mlickd.modeling.meta_arch.preprocess import ImageModel

MEAN, STD = (103.5, 116.2, 123.7), (57.4, 57.1, 58.4)


def model(size_divisibility: int) -> ImageModel:
    backbone = nn.Identity()
    backbone.size_divisibility = size_divisibility
    return ImageModel(backbone=backbone, num_classes=1, pixel_mean=MEAN, pixel_std=STD)


@pytest.mark.parametrize("size_divisibility", [0, 16])
@pytest.mark.parametrize("sizes", [[(20, 20)], [(20, 20)] * 3, [(16, 32)] * 2, [(20, 30), (24, 20)]])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_is_that_of_detectron2(size_divisibility: int, sizes: list, dtype: torch.dtype) -> None:
    images = [torch.randint(256, (3, *size), dtype=torch.uint8).to(dtype) for size in sizes]
    given = [image.clone() for image in images]
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    expected = ImageList.from_tensors([(image.float() - mean) / std for image in images], size_divisibility)
    batch = model(size_divisibility).preprocess(images)
    assert torch.equal(batch.tensor, expected.tensor) and batch.tensor.dtype == torch.float32
    assert batch.image_sizes == expected.image_sizes == sizes
    assert all(torch.equal(image, before) for image, before in zip(images, given, strict=True))
