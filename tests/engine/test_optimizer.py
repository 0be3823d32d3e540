"""The optimizer: learning rates for each part of the model, and skipped steps."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from helpers.small_models import save_teacher, student_config, teacher_config
from mlickd.engine import build_optimizer


def rates(cfg, model) -> dict[str, tuple[float, float]]:
    """Return the learning rate and weight decay of each parameter by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optimizer(cfg, model).param_groups
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_new_layers_and_biases_have_their_own_rates() -> None:
    cfg = teacher_config()
    cfg.merge_from_list(["SOLVER.BASE_LR", 0.5, "SOLVER.WEIGHT_DECAY", 0.1, "SOLVER.LAST_LAYER_LR_FACTOR", 10.0])
    cfg.merge_from_list(["SOLVER.BIAS_LR_FACTOR", 2.0, "SOLVER.WEIGHT_DECAY_BIAS", 0.0])
    found = rates(cfg, build_model(cfg))
    for stream in ("class_stream", "detection_stream"):
        assert found[f"roi_heads.{stream}.weight"] == pytest.approx((5.0, 0.1))
        assert found[f"roi_heads.{stream}.bias"] == pytest.approx((10.0, 0.0))
    assert found["backbone.conv1_1.weight"] == pytest.approx((0.5, 0.1))
    assert found["backbone.conv1_1.bias"] == pytest.approx((1.0, 0.0))
    # A layer of a pretrained backbone may be called `linear`.
    model = torch.nn.ModuleDict({"backbone": torch.nn.ModuleDict({"linear": torch.nn.Linear(1, 1)})})
    assert rates(cfg, model)["backbone.linear.weight"] == pytest.approx((0.5, 0.1))
    cfg.MODEL.BACKBONE.FROZEN = True
    assert not any(name.startswith("backbone.") for name in rates(cfg, build_model(cfg)))


def test_classifiers_streams_and_adapters_are_new_layers(tmp_path: Path) -> None:
    cfg = teacher_config()
    cfg.merge_from_list(["MODEL.ROI_HEADS.NAME", "OICRHeads", "MODEL.WSDDN.CONTEXT", 0.5])
    student = student_config(save_teacher(tmp_path), "feature", "MODEL.VGG.WIDTH", 0.2)
    names = ("roi_heads.refinement_streams.0", "roi_heads.context_classifier"), ("feature_distiller.adapters.0",)
    plain = student_config(tmp_path, "", "MODEL.META_ARCHITECTURE", "MultiLabelClassifier")
    for each, new in zip((cfg, student, plain), (*names, ("head.linear",)), strict=True):
        each.merge_from_list(["SOLVER.BASE_LR", 0.5, "SOLVER.LAST_LAYER_LR_FACTOR", 10.0])
        found = rates(each, build_model(each))
        assert {found[f"{name}.weight"][0] for name in new} == {5.0}
        assert {rate for name, (rate, _) in found.items() if "backbone." in name} == {0.5}


@pytest.mark.parametrize("name", ["SGD", "ADAMW"])
def test_a_skipped_step_does_not_change_the_optimizer(name: str) -> None:
    cfg = teacher_config()
    cfg.merge_from_list(["SOLVER.OPTIMIZER", name, "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "float16"])
    ends = []
    for gradients in ([1.0, 2.0], [float("inf"), 1.0, 2.0]):
        model = torch.nn.Linear(3, 2)
        torch.nn.init.ones_(model.weight)
        optimizer = build_optimizer(cfg, model)
        scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
        for gradient in gradients:
            optimizer.zero_grad()
            scaler.scale((model.weight * gradient).sum()).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        ends.append(model.weight.detach())
    torch.testing.assert_close(*ends)
