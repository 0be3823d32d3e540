"""What leaves a loader worker arrives unchanged."""

from __future__ import annotations

import pickle

import torch
from hypothesis import given
from hypothesis import strategies as st

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
