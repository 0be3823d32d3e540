"""What leaves a worker arrives unchanged."""

from __future__ import annotations

import pickle

import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from mlickd.data import View
from mlickd.data.packed_batch import PackedBatch

dtypes = st.sampled_from([torch.uint8, torch.float32, torch.float16, torch.int64, torch.bool, torch.float64])
shapes = st.lists(st.integers(0, 4), max_size=3)


@given(st.lists(st.tuples(dtypes, shapes), max_size=6))
def test_tensors_of_all_kinds(kinds: list) -> None:
    tensors = [(torch.rand(shape) * 9).to(dtype) for dtype, shape in kinds]
    arrived = pickle.loads(pickle.dumps(PackedBatch([{"tensors": tensors}])))
    assert type(arrived) is list
    for sent, received in zip(tensors, arrived[0]["tensors"], strict=True):
        assert received.dtype == sent.dtype and torch.equal(received, sent)


def samples(count: int) -> list[dict]:
    generator = torch.Generator().manual_seed(count)
    result = []
    for i in range(count):
        proposals = Instances((8, 8))
        proposals.proposal_boxes = Boxes(torch.rand(i, 4, generator=generator))
        proposals.objectness = torch.rand(i, generator=generator)
        image = torch.randint(256, (8, 8, 3), generator=generator, dtype=torch.uint8).permute(2, 0, 1)
        result.append({"image": image, "proposals": proposals, "labels": [i], "view": View(8), "image_id": f"{i}"})
    return result


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_come_through_a_loader(workers: int) -> None:
    sent = samples(5)
    (arrived,) = DataLoader(sent, batch_size=5, num_workers=workers, collate_fn=PackedBatch)
    for before, after in zip(sent, arrived, strict=True):
        assert torch.equal(before["image"], after["image"])
        for field in ("proposal_boxes", "objectness"):
            values = [getattr(sample["proposals"], field) for sample in (before, after)]
            first, second = (value.tensor if isinstance(value, Boxes) else value for value in values)
            assert torch.equal(first, second)
        assert all(before[key] == after[key] for key in ("labels", "view", "image_id"))
