"""Each part of the model learns at the rate that the configuration gives it."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from helpers.small_models import teacher_config
from mlickd.engine import build_optimizer
from mlickd.errors import InputError


def rates(cfg, model) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by the parameter's name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optimizer(cfg, model).param_groups
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_the_streams_of_the_papers_teacher_learn_at_10x_and_their_biases_at_20x() -> None:
    cfg = teacher_config()
    cfg.merge_from_list(["SOLVER.BASE_LR", 0.5, "SOLVER.WEIGHT_DECAY", 0.1, "SOLVER.LAST_LAYER_LR_FACTOR", 10.0])
    cfg.merge_from_list(["SOLVER.BIAS_LR_FACTOR", 2.0, "SOLVER.WEIGHT_DECAY_BIAS", 0.0])
    found = rates(cfg, build_model(cfg))
    for stream in ("class_stream", "detection_stream"):
        assert found[f"roi_heads.{stream}.weight"] == pytest.approx((5.0, 0.1))
        assert found[f"roi_heads.{stream}.bias"] == pytest.approx((10.0, 0.0))
    assert found["backbone.conv1_1.weight"] == pytest.approx((0.5, 0.1))
    assert found["backbone.conv1_1.bias"] == pytest.approx((1.0, 0.0))
    assert found["roi_heads.box_head.fc6.bias"] == pytest.approx((1.0, 0.0))


def test_frozen_parameters_are_left_out() -> None:
    cfg = teacher_config()
    cfg.MODEL.BACKBONE.FROZEN = True
    found = rates(cfg, build_model(cfg))
    assert found and not any(name.startswith("backbone.") for name in found)


@pytest.mark.parametrize(("name", "kind"), [("SGD", torch.optim.SGD), ("ADAMW", torch.optim.AdamW)])
def test_the_optimizer_is_the_one_asked_for(name: str, kind: type) -> None:
    cfg = teacher_config()
    cfg.SOLVER.OPTIMIZER = name
    assert isinstance(build_optimizer(cfg, build_model(cfg)), kind)


def test_an_unknown_optimizer_is_refused() -> None:
    cfg = teacher_config()
    cfg.SOLVER.OPTIMIZER = "LION"
    with pytest.raises(InputError, match="SOLVER.OPTIMIZER 'LION' is none of SGD, ADAMW"):
        build_optimizer(cfg, build_model(cfg))
