"""Time per image of the student, its bare network, the exported student, and the teacher."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import timm
import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from mlickd.data import dataset_records
from mlickd.data.build import build_test_mapper
from mlickd.environment import keep_freed_memory
from mlickd.export import load_exported
from mlickd.export.onnx_export import export_student

from .measurement import BenchmarkResult, time_interleaved
from .settings import TEST, network_config, synthetic_datasets, write_run


def measure_inference(
    networks: Sequence[str] = ("vgg16", "efficientnet-lite0"), batch_size: int = 16, repetitions: int = 5
) -> list[BenchmarkResult]:
    """Milliseconds per image: the student, its bare network, the exported student in ONNX Runtime, and the teacher.

    A measurement starts with uint8 pixels (and existing proposals) and ends with probabilities. Weights are random.
    ONNX Runtime and PyTorch use the same number of threads.

    Args:
        networks: networks to measure
        batch_size: images of the larger batch; the smaller batch has one image
        repetitions: timed batches of each network
    """
    keep_freed_memory()  # as `mlickd train --eval-only` does
    comparisons = []
    with synthetic_datasets(batch_size) as root, torch.inference_mode():
        for network in networks:
            configs = [network_config(network, kind, OUTPUT_DIR=str(root / kind)) for kind in ("cls", "wsd")]
            student, teacher = (build_model(cfg).eval() for cfg in configs)
            write_run(configs[0], root / network)
            export_student(root / network, root / "student.onnx")
            exported = load_exported(root / "student.onnx", torch.get_num_threads())
            bare = BareClassifier(configs[0]).eval()
            records = dataset_records(TEST)[:batch_size]
            samples, teacher_samples = ([*map(build_test_mapper(cfg, TEST), records)] for cfg in configs)
            sizes = [cfg.INPUT.SIZE_TEST for cfg in configs]
            for count in sorted({1, batch_size}):
                pixels = torch.stack([sample["image"] for sample in samples[:count]])
                calls = {
                    "bare network": partial(bare, pixels),
                    "student": partial(student, samples[:count]),
                    "exported": partial(exported.predict_scores, pixels.permute(0, 2, 3, 1).numpy()),
                }
                comparisons.append(_per_image(f"{network} at {sizes[0]} px", calls, repetitions, count))
            calls = {"student": partial(student, samples[:1]), "teacher": partial(teacher, teacher_samples[:1])}
            comparisons.append(_per_image("{} at {} and {} px".format(network, *sizes), calls, repetitions, 1))
    return comparisons


def _per_image(title: str, calls: Mapping[str, Callable], repetitions: int, count: int) -> BenchmarkResult:
    title = f"{title}, batch {count}"
    return time_interleaved(title, calls, repetitions, warm_up=2, unit="ms per image", scale=1000 / count)


class BareClassifier(nn.Module):
    """The network of a student without this project: normalization, a model of timm or torchvision, and a sigmoid."""

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.register_buffer("mean", torch.tensor(cfg.MODEL.PIXEL_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(cfg.MODEL.PIXEL_STD).view(1, 3, 1, 1))
        classes = cfg.MODEL.NUM_CLASSES
        if cfg.MODEL.BACKBONE.NAME == "build_timm_backbone":
            self.layout = torch.channels_last  # as in the student
            self.network = timm.create_model(cfg.MODEL.TIMM.NAME, num_classes=classes).to(memory_format=self.layout)
        else:
            self.layout = torch.contiguous_format
            self.network = torchvision.models.get_model(f"vgg{cfg.MODEL.VGG.DEPTH}", weights=None, init_weights=False)
            self.network.classifier[-1] = nn.Linear(self.network.classifier[-1].in_features, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return probabilities (N, C) of images (N, 3, H, W) uint8."""
        images = ((images.float() - self.mean) / self.std).contiguous(memory_format=self.layout)
        return self.network(images).sigmoid()
