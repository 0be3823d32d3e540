"""What leaves a loader worker arrives unchanged."""

from __future__ import annotations

import pickle

import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from mlickd.data import View
from mlickd.data.workers import PackedBatch

dtypes = st.sampled_from([torch.uint8, torch.float32, torch.float16, torch.int64, torch.bool, torch.float64])
shapes = st.lists(st.integers(0, 4), max_size=3)


@given(st.lists(st.tuples(dtypes, shapes, st.booleans()), max_size=6))
def test_tensors_of_all_kinds(kinds: list) -> None:
    tensors = [(torch.rand(shape) * 9).to(dtype) for dtype, shape, _ in kinds]
    tensors = [
        tensor.mT if kind[2] and tensor.ndim > 1 else tensor for tensor, kind in zip(tensors, kinds, strict=True)
    ]
    arrived = pickle.loads(pickle.dumps(PackedBatch([{"tensors": tensors}])))
    assert type(arrived) is list
    for sent, received in zip(tensors, arrived[0]["tensors"], strict=True):
        assert received.dtype == sent.dtype and received.shape == sent.shape and torch.equal(received, sent)
        received.zero_()  # writable, and not shared


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_come_through_a_loader(workers: int) -> None:
    sent = []
    for i in range(5):
        proposals = Instances((8, 8))
        proposals.proposal_boxes, proposals.objectness = Boxes(torch.rand(i, 4)), torch.rand(i)
        image = torch.randint(256, (8, 8, 3), dtype=torch.uint8).permute(2, 0, 1)
        sent.append({"image": image, "proposals": proposals, "labels": [i], "view": View(8), "image_id": f"{i}"})
    (arrived,) = DataLoader(sent, batch_size=5, num_workers=workers, collate_fn=PackedBatch)
    for before, after in zip(sent, arrived, strict=True):
        assert torch.equal(before["image"], after["image"])
        assert torch.equal(before["proposals"].proposal_boxes.tensor, after["proposals"].proposal_boxes.tensor)
        assert torch.equal(before["proposals"].objectness, after["proposals"].objectness)
        assert all(before[key] == after[key] for key in ("labels", "view", "image_id"))
