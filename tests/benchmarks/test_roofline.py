from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mlickd.benchmarks.roofline import backward_convolution, is_arithmetic


@pytest.mark.parametrize(
    ("operator", "arithmetic"),
    [
        ("aten::mkldnn_convolution", True),
        ("aten::convolution_backward", True),
        ("aten::_slow_conv2d_forward", True),
        ("aten::addmm", True),
        ("aten::mm", True),
        ("aten::mul", False),
        ("aten::max_pool2d", False),
        ("Optimizer.step#SGD.step", False),
        ("torchvision::roi_pool", False),
    ],
)
def test_operators(operator: str, arithmetic: bool) -> None:
    assert is_arithmetic(operator) is arithmetic


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (2, 2), (4, 1)])
@pytest.mark.parametrize("of_input", [False, True])
def test_a_backward_convolution_costs_as_much_for_each_gradient(groups: int, stride: int, of_input: bool) -> None:
    layer = torch.nn.Conv2d(4, 8, 3, stride=stride, padding=1, groups=groups, bias=False)
    images = torch.rand(2, 4, 8, 8, requires_grad=of_input)
    mapping = {torch.ops.aten.convolution_backward: backward_convolution}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        layer(images).sum().backward()
    forward = 2 * 2 * (8 // stride) ** 2 * 8 * (4 // groups) * 9
    assert counter.get_total_flops() == forward * (3 if of_input else 2)
