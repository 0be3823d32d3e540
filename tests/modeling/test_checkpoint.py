"""Checkpoints fit, or are refused with their keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mlickd.errors import InputError
from mlickd.modeling import load_checkpoint


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def saved(content: dict[str, torch.Tensor], folder: Path) -> str:
    torch.save({"model": content}, folder / "model.pth")
    return str(folder / "model.pth")


def test_counts_of_batches_may_be_missing_and_nothing_else(tmp_path: Path) -> None:
    content = network().state_dict()
    del content["1.num_batches_tracked"]
    model = network()
    load_checkpoint(model, saved(content, tmp_path), "MODEL.WEIGHTS")
    assert all(torch.equal(model.state_dict()[key], value) for key, value in content.items())
    del content["1.running_var"]
    with pytest.raises(InputError, match=r"MODEL.WEIGHTS .*model.pth is not .*: missing: 1.running_var$"):
        load_checkpoint(network(), saved(content, tmp_path), "MODEL.WEIGHTS")


def test_what_is_left_over_or_of_another_shape_is_listed(tmp_path: Path) -> None:
    content = network().state_dict() | {"2.bias": torch.zeros(3), "0.bias": torch.zeros(5)}
    with pytest.raises(InputError, match=r"left over: 2.bias; of another shape: 0.bias$"):
        load_checkpoint(network(), saved(content, tmp_path), "MODEL.WEIGHTS")
