from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from mlickd.benchmarks.inference import BareClassifier, _both_layouts, bare_network
from mlickd.config import default_config
from mlickd.engine.performance import multiply_adds
from mlickd.modeling import load_backbone_weights

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(params=["folder/cls.yaml", "cls_vgg16.yaml"])
def cfg(request: pytest.FixtureRequest):
    cfg = default_config()
    cfg.merge_from_file(str(CONFIGS / request.param))
    cfg.merge_from_list(["MODEL.NUM_CLASSES", 7, "MODEL.DEVICE", "cpu", "MODEL.VGG.DEPTH", 11])
    cfg.merge_from_list(["MODEL.BACKBONE.FREEZE_NORM", False])
    return cfg


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_bare_network_is_the_student_without_this_project(cfg, layout, tmp_path: Path) -> None:
    torch.manual_seed(0)
    bare = BareClassifier(bare_network(cfg), cfg, layout).eval()
    student = build_model(cfg).eval()
    torch.save(bare.network.state_dict(), tmp_path / "bare.pth")
    load_backbone_weights(student, str(tmp_path / "bare.pth"))
    last = [module for module in bare.network.modules() if isinstance(module, torch.nn.Linear)][-1]
    student.head.linear.load_state_dict(last.state_dict())
    # VGG's fc6 and fc7 come with the backbone.
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    with torch.inference_mode():
        ours = torch.stack([output["image_scores"] for output in student([{"image": image} for image in images])])
        torch.testing.assert_close(bare(images), ours, rtol=1e-4, atol=1e-5)


def test_the_bare_network_of_the_target_has_the_layout_of_the_student(cfg) -> None:
    student = build_model(cfg)
    (name, model), (_, other) = _both_layouts(cfg).items()
    kernel = next(p for p in student.backbone.parameters() if p.dim() == 4)
    ours, bare, different = (next(p for p in m.parameters() if p.dim() == 4) for m in (student, model, other))
    assert bare.stride() == ours.stride() != different.stride()
    assert name.endswith("channels last") == kernel.is_contiguous(memory_format=torch.channels_last)


def test_multiply_adds_of_a_small_network() -> None:
    cfg = default_config()
    cfg.merge_from_file(str(CONFIGS / "Base-Classifier.yaml"))
    cfg.merge_from_list(["MODEL.NUM_CLASSES", 7, "MODEL.DEVICE", "cpu", "MODEL.VGG.DEPTH", 11, "MODEL.VGG.WIDTH", 0.1])
    model = build_model(cfg).eval()
    # Channels at a tenth of the width, and the side of the map of each convolution of VGG11 at 32 pixels.
    layers = [(3, 6, 32), (6, 13, 16), (13, 26, 8), (26, 26, 8), (26, 51, 4), (51, 51, 4), (51, 51, 2), (51, 51, 2)]
    expected = sum(9 * inputs * outputs * side**2 for inputs, outputs, side in layers) + 51 * 7
    assert multiply_adds(model, [{"image": torch.zeros(3, 32, 32)}]) == expected
