"""torch.compile changes neither the result nor the checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from helpers.small_models import make_batch, save_teacher, student_config, teacher_config
from mlickd.engine.performance import compile_backbone
from mlickd.errors import InputError


def backbone_of(model: nn.Module) -> nn.Module:
    return model.student.backbone if hasattr(model, "student") else model.backbone


@pytest.mark.parametrize("kind", ["teacher", "prediction"])
def test_a_compiled_model_has_the_same_keys_and_results(kind: str, tmp_path: Path) -> None:
    cfg = teacher_config() if kind == "teacher" else student_config(save_teacher(tmp_path), kind)
    model = build_model(cfg).eval()
    compiled = copy.deepcopy(model)
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
        graphs.append(graph)
        return graph.forward

    compile_backbone(compiled, backend)
    graphs.clear()
    batch = make_batch()
    with torch.no_grad():
        scores = [torch.stack([o["image_scores"] for o in m(batch)]) for m in (model, compiled)]
    torch.testing.assert_close(*scores)
    (graph,) = graphs
    assert sum(node.target is torch.conv2d for node in graph.graph.nodes) == 8
    assert list(compiled.state_dict()) == list(model.state_dict())
    assert type(backbone_of(compiled)) is type(backbone_of(model))


def test_a_machine_that_cannot_compile_is_refused_in_one_line() -> None:
    def broken(graph, inputs):
        raise RuntimeError("no compiler found\nand a page about it")

    with pytest.raises(InputError, match=r"SOLVER.COMPILE: .*no compiler found.*; install a C\+\+ compiler") as error:
        compile_backbone(build_model(teacher_config()), backend=broken)
    assert "\n" not in str(error.value)
