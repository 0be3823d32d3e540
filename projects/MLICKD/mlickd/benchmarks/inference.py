"""What an image costs: the student beside its teacher, and beside the network that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import timm
import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from mlickd.data import dataset_records
from mlickd.data.build import build_test_mapper
from mlickd.engine.performance import keep_freed_memory, multiply_adds

from .comparison import Comparison, Target
from .networks import NETWORKS, Network
from .registry import Option, benchmark
from .timing import interleaved
from .workspace import TEST, scenes_workspace

__all__ = ["BareClassifier", "bare_network", "measure_inference"]


@benchmark(
    "inference",
    "milliseconds and multiply-adds of an image: student, teacher, and the bare network of timm or torchvision",
    networks=Option("networks to measure", quick=("efficientnet-lite0",), choices=("vgg16", "efficientnet-lite0")),
    batch_size=Option("images of the larger batch", quick=2),
    repetitions=Option("times that each is timed", quick=1),
)
def measure_inference(
    networks: Sequence[str] = ("vgg16", "efficientnet-lite0"), batch_size: int = 16, repetitions: int = 5
) -> list[Comparison]:
    """From uint8 pixels (and ready proposals) to probabilities, with random weights.

    Args:
        networks: in `NETWORKS`.
        batch_size: of the larger batch; the other has one image.
        repetitions: rounds of one batch each.
    """
    keep_freed_memory()  # as train_net.py --eval-only does
    comparisons = []
    with scenes_workspace(batch_size) as root:
        for name in networks:
            network = NETWORKS[name]
            options = {"OUTPUT_DIR": str(root / name)}
            student_cfg = network.config(network.student, options)
            student = build_model(student_cfg).eval()
            samples = _samples(student_cfg, batch_size)
            bare = _both_layouts(student_cfg)
            for count in sorted({1, batch_size}):
                comparisons.append(_against_bare(network, student_cfg, student, bare, samples[:count], repetitions))
            teacher_cfg = network.config(network.teacher, options)
            teacher = build_model(teacher_cfg).eval()
            teacher_samples = _samples(teacher_cfg, 1)
            comparisons.append(_against_teacher(network, student, teacher, samples[:1], teacher_samples, repetitions))
    return comparisons


class BareClassifier(nn.Module):
    """A network that ends in one linear layer, with what any use of it needs: normalization and the sigmoid."""

    def __init__(self, network: nn.Module, cfg: CfgNode, layout: torch.memory_format = torch.contiguous_format):
        super().__init__()
        self.network = network.to(memory_format=layout)
        self.layout = layout
        self.register_buffer("mean", torch.tensor(cfg.MODEL.PIXEL_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(cfg.MODEL.PIXEL_STD).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) uint8 to (N, C) probabilities."""
        images = ((images.float() - self.mean) / self.std).contiguous(memory_format=self.layout)
        return self.network(images).sigmoid()


def bare_network(cfg: CfgNode) -> nn.Module:
    """What a student is without this project: timm's model, or torchvision's VGG."""
    classes = cfg.MODEL.NUM_CLASSES
    if cfg.MODEL.BACKBONE.NAME == "build_timm_backbone":
        return timm.create_model(cfg.MODEL.TIMM.NAME, num_classes=classes)
    network = torchvision.models.get_model(f"vgg{cfg.MODEL.VGG.DEPTH}", weights=None, init_weights=False)
    if cfg.MODEL.CLASSIFIER.POOLING == "fc":
        network.classifier[-1] = nn.Linear(network.classifier[-1].in_features, classes)
        return network
    pool = nn.AdaptiveAvgPool2d(1) if cfg.MODEL.CLASSIFIER.POOLING == "average" else nn.AdaptiveMaxPool2d(1)
    return nn.Sequential(network.features[:-1], pool, nn.Flatten(), nn.Linear(512, classes))


def _both_layouts(cfg: CfgNode) -> dict[str, BareClassifier]:
    """The bare network by how its tensors lie in memory; the layout that the student has comes first."""
    layouts = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
    first = "channels last" if cfg.MODEL.BACKBONE.NAME == "build_timm_backbone" else "channels first"
    return {
        f"bare network, {name}": BareClassifier(bare_network(cfg), cfg, layouts[name]).eval()
        for name in sorted(layouts, key=lambda name: name != first)
    }


def _samples(cfg: CfgNode, count: int) -> list[dict]:
    return [build_test_mapper(cfg, TEST)(record) for record in dataset_records(TEST)[:count]]


def _without_gradients(call: Callable[[], object]) -> Callable[[], object]:
    return torch.inference_mode()(call)


def _against_bare(
    network: Network,
    cfg: CfgNode,
    student: nn.Module,
    bare: dict[str, BareClassifier],
    samples: list[dict],
    repetitions: int,
) -> Comparison:
    pixels = torch.stack([sample["image"] for sample in samples])
    calls = {name: partial(model, pixels) for name, model in bare.items()} | {"student": partial(student, samples)}
    title = f"{network.title} at {cfg.INPUT.SIZE_TEST} px, batch {len(samples)}"
    calls = {name: _without_gradients(call) for name, call in calls.items()}
    rows = interleaved(calls, repetitions, warm_up=2, title=title, scale=1000 / len(samples))
    return Comparison(title, "ms an image", rows, [Target("student", next(iter(bare)), 1.05)])


def _against_teacher(
    network: Network,
    student: nn.Module,
    teacher: nn.Module,
    student_samples: list[dict],
    teacher_samples: list[dict],
    repetitions: int,
) -> Comparison:
    calls = {"student": lambda: student(student_samples), "teacher": lambda: teacher(teacher_samples)}
    sizes = "{} and {} px".format(*(s[0]["image"].shape[-1] for s in (student_samples, teacher_samples)))
    title = f"{network.title} at {sizes}"
    calls = {name: _without_gradients(call) for name, call in calls.items()}
    rows = interleaved(calls, repetitions, title=title, scale=1000)
    costs = multiply_adds(student, student_samples), multiply_adds(teacher, teacher_samples)
    rows = [
        replace(row, details={"10^9 multiply-adds": f"{cost / 1e9:.2f}"}) for row, cost in zip(rows, costs, strict=True)
    ]
    return Comparison(title, "ms an image", rows)
