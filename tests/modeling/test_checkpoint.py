"""Checkpoints fit, or are refused with their keys."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mlickd.errors import InputError
from mlickd.modeling import load_checkpoint, read_checkpoint


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
    with pytest.raises(InputError, match=r"MODEL.WEIGHTS .*model.pth is not .*: missing: 1.running_var; give one"):
        load_checkpoint(network(), saved(content, tmp_path), "MODEL.WEIGHTS")


def test_what_is_left_over_or_of_another_shape_is_listed(tmp_path: Path) -> None:
    content = network().state_dict() | {"2.bias": torch.zeros(3), "0.bias": torch.zeros(5)}
    with pytest.raises(InputError, match=r"left over: 2.bias; of another shape: 0.bias; give one"):
        load_checkpoint(network(), saved(content, tmp_path), "MODEL.WEIGHTS")


def test_weights_of_detectron2_are_read_and_nothing_in_them_is_run(tmp_path: Path) -> None:
    weights = {"stem.conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(3)}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"model": weights, "__author__": "them"}))
    read = read_checkpoint(str(tmp_path / "R-50.pkl"), "MODEL.WEIGHTS")
    assert read.keys() == weights.keys() and read["count"].item() == 3
    torch.testing.assert_close(read["stem.conv1.weight"], torch.arange(6.0).reshape(2, 3))
    ran = tmp_path / "ran"
    for name in ("hostile.pkl", "hostile.pth"):
        (tmp_path / name).write_bytes(pickle.dumps({"model": Hostile(ran)}))
        with pytest.raises(InputError, match=f"^MODEL.WEIGHTS .*{name}"):
            read_checkpoint(str(tmp_path / name), "MODEL.WEIGHTS")
    assert not ran.exists()
    pickle.loads((tmp_path / "hostile.pkl").read_bytes())
    assert ran.exists(), "the file is as hostile as it is meant to be"


class Hostile:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("content", [b"", b"hi", b"\x80", b"PK\x03\x04", pickle.dumps([1])])
def test_what_is_no_checkpoint_is_one_line(content: bytes, mapped: bool, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"^MODEL.WEIGHTS .*a\.pth ") as error:
        read_checkpoint(str(tmp_path / "a.pth"), "MODEL.WEIGHTS", mapped=mapped)
    assert "\n" not in str(error.value)


def test_a_mapped_checkpoint_holds_the_same(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.arange(4.0)}}, tmp_path / "a.pth")
    for mapped in (False, True):
        read = read_checkpoint(str(tmp_path / "a.pth"), "MODEL.WEIGHTS", mapped=mapped)
        assert read["a"].tolist() == [0, 1, 2, 3]
