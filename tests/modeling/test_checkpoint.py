"""A checkpoint must match the whole model, and a model can be checked without its weights."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, build_model
from torch import nn

from helpers.small_models import student_config, teacher_config
from mlickd.errors import InputError
from mlickd.modeling import VGG
from mlickd.modeling.checkpoint import check_checkpoint, load_checkpoint, model_blueprint, read_checkpoint


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def saved(content: dict[str, torch.Tensor], folder: Path) -> str:
    torch.save({"model": content}, folder / "model.pth")
    return str(folder / "model.pth")


@pytest.mark.parametrize("use", [load_checkpoint, check_checkpoint])
def test_a_checkpoint_that_does_not_match_is_refused_with_its_keys(use, tmp_path: Path) -> None:
    content = network().state_dict()
    del content["1.num_batches_tracked"]  # frozen layers of Detectron2 have no counter
    model, path = network(), saved(content, tmp_path)
    use(model, path, "MODEL.WEIGHTS")
    loaded = model.state_dict() if use is load_checkpoint else read_checkpoint(path, "MODEL.WEIGHTS", mmap=True)
    assert all(torch.equal(loaded[key], value) for key, value in content.items())
    del content["1.running_var"]
    content |= {"2.bias": torch.zeros(3), "0.bias": torch.zeros(5)}
    with pytest.raises(InputError, match=r"^MODEL.WEIGHTS .*model.pth .*: 1.running_var; .*: 2.bias; .*: 0.bias; "):
        use(network(), saved(content, tmp_path), "MODEL.WEIGHTS")


def test_weights_of_detectron2_are_read(tmp_path: Path) -> None:
    weights = {"stem.conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(3)}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"model": weights, "__author__": "them"}))
    read = read_checkpoint(str(tmp_path / "R-50.pkl"), "MODEL.WEIGHTS")
    assert read.keys() == weights.keys() and read["count"].item() == 3
    torch.testing.assert_close(read["stem.conv1.weight"], torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("mmap", [False, True])
def test_a_file_that_is_not_a_checkpoint_is_named(mmap: bool, tmp_path: Path) -> None:
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04")
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    for name in ("cut.pth", "other.pth"):
        with pytest.raises(InputError, match=rf"^MODEL.WEIGHTS .*{name}"):
            read_checkpoint(str(tmp_path / name), "MODEL.WEIGHTS", mmap=mmap)


def test_a_blueprint_has_names_and_shapes_and_does_not_draw_random_numbers(tmp_path: Path) -> None:
    before, cfg = torch.get_rng_state(), student_config(tmp_path, "prediction")
    cfg.freeze()
    blueprint = model_blueprint(cfg).state_dict()
    assert torch.equal(torch.get_rng_state(), before) and all(value.is_meta for value in blueprint.values())
    shapes = {key: value.shape for key, value in build_model(cfg).state_dict().items()}
    assert {key: value.shape for key, value in blueprint.items()} == shapes


def test_a_backbone_may_compute_values_when_it_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(cfg: CfgNode, input_shape: ShapeSpec) -> VGG:
        backbone = VGG(depth=11, width=0.1)
        backbone.scale = backbone.conv1_1.weight.abs().max().item()
        return backbone

    monkeypatch.setitem(BACKBONE_REGISTRY._obj_map, "build_measured", build)
    cfg = student_config(tmp_path, "prediction", "MODEL.BACKBONE.NAME", "build_measured")
    assert model_blueprint(cfg).student.backbone.scale > 0
    teacher = teacher_config()
    teacher.MODEL.BACKBONE.NAME = "build_measured"
    assert model_blueprint(teacher).backbone.scale > 0
