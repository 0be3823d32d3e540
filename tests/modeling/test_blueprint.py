"""A model can be looked at without its numbers."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, build_model

from mlickd.config import default_config
from mlickd.errors import InputError
from mlickd.modeling import VGG
from mlickd.modeling.blueprint import model_blueprint


class Measured(VGG):
    """A backbone that computes with its parameters while it is built."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.scale = self.conv1_1.weight.abs().max().item()


def config(*options: object) -> CfgNode:
    cfg = default_config()
    cfg.MODEL.META_ARCHITECTURE = "MultiLabelClassifier"
    cfg.MODEL.BACKBONE.NAME = "build_vgg_backbone"
    cfg.MODEL.VGG.WIDTH = 0.1
    cfg.MODEL.NUM_CLASSES = 3
    cfg.merge_from_list(list(options))
    cfg.freeze()
    return cfg


def test_it_has_the_names_and_shapes_of_the_model_and_draws_nothing() -> None:
    before = torch.get_rng_state()
    blueprint = model_blueprint(config())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(value.is_meta for value in blueprint.state_dict().values())
    shapes = {key: value.shape for key, value in build_model(config("MODEL.DEVICE", "cpu")).state_dict().items()}
    assert {key: value.shape for key, value in blueprint.state_dict().items()} == shapes


def test_a_backbone_that_computes_while_it_is_built_is_built_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(cfg: CfgNode, input_shape: ShapeSpec) -> Measured:
        return Measured(depth=11, out_features=("conv5",), width=0.1)

    monkeypatch.setitem(BACKBONE_REGISTRY._obj_map, "build_measured", build)
    assert model_blueprint(config("MODEL.BACKBONE.NAME", "build_measured")).backbone.scale > 0


def test_a_model_that_cannot_be_built_is_one_line() -> None:
    with pytest.raises(InputError, match="MODEL.VGG.DEPTH 12"):
        model_blueprint(config("MODEL.VGG.DEPTH", 12))
