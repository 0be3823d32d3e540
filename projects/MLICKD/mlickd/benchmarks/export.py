"""What an image costs in an exported file, beside the model in PyTorch that it is of."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from mlickd.data import dataset_records
from mlickd.data.build import build_test_mapper
from mlickd.data.catalog import class_names
from mlickd.engine.performance import keep_freed_memory
from mlickd.export import ExportedClassifier, ExportMetadata, load_exported
from mlickd.export.onnx_export import onnx_content
from mlickd.modeling import MultiLabelClassifier

from .comparison import Comparison
from .networks import NETWORKS
from .registry import Option, benchmark
from .timing import interleaved
from .workspace import TEST, scenes_workspace

__all__ = ["measure_export"]


@benchmark(
    "export",
    "milliseconds of an image: a student in PyTorch, and the files that it is exported to",
    packages=("onnx", "onnxruntime", "onnxscript"),
    extra="export",
    networks=Option("networks to measure", quick=("scenes",), choices=tuple(NETWORKS)),
    batch_size=Option("images of the larger batch", quick=2),
    repetitions=Option("times that each is timed", quick=1),
)
def measure_export(
    networks: Sequence[str] = ("efficientnet-lite0", "scenes"), batch_size: int = 16, repetitions: int = 20
) -> list[Comparison]:
    """From uint8 pixels to probabilities, with random weights; ONNX Runtime has as many threads as PyTorch.

    Args:
        networks: in `NETWORKS`; students.
        batch_size: of the larger batch; the other has one image.
        repetitions: rounds of one batch each.
    """
    keep_freed_memory()  # as train_net.py --eval-only does
    comparisons = []
    with scenes_workspace(batch_size, proposals=False) as root:
        for name in networks:
            network = NETWORKS[name]
            cfg = network.config(network.student, {"OUTPUT_DIR": str(root / name)})
            student = build_model(cfg).eval()
            files = _exported(cfg, student)
            samples = [build_test_mapper(cfg, TEST)(record) for record in dataset_records(TEST)]
            for count in sorted({1, batch_size}):
                title = f"{network.title} at {cfg.INPUT.SIZE_TEST} px, batch {count}"
                comparisons.append(_compare(title, student, files, samples[:count], repetitions))
    return comparisons


def _exported(cfg: CfgNode, student: MultiLabelClassifier) -> dict[str, tuple[ExportedClassifier, str]]:
    """By title, and with its size."""
    names = class_names(TEST)
    metadata = ExportMetadata(
        class_names=tuple(names),
        thresholds=(cfg.TEST.THRESHOLD,) * len(names),
        thresholds_from="",
        input_size=cfg.INPUT.SIZE_TEST,
        preprocessing=True,
        pixel_mean=tuple(map(float, cfg.MODEL.PIXEL_MEAN)),
        pixel_std=tuple(map(float, cfg.MODEL.PIXEL_STD)),
        channel_order=cfg.INPUT.FORMAT,
    )
    contents = {"student.onnx, ONNX Runtime": onnx_content(student, metadata)}
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, content in contents.items():
            path = Path(folder) / title.partition(",")[0]
            path.write_bytes(content)
            files[title] = load_exported(path, torch.get_num_threads()), f"{len(content) / 1e6:.1f}"
    return files


def _compare(
    title: str,
    student: MultiLabelClassifier,
    files: dict[str, tuple[ExportedClassifier, str]],
    samples: list[dict],
    repetitions: int,
) -> Comparison:
    pixels = np.stack([sample["image"].numpy().transpose(1, 2, 0) for sample in samples])
    calls = {"student": torch.inference_mode()(partial(student, samples))}
    calls |= {name: partial(file.scores_of_views, pixels) for name, (file, _) in files.items()}
    rows = interleaved(calls, repetitions, warm_up=2, title=title, scale=1000 / len(samples))
    sizes = {name: {"MB": size} for name, (_, size) in files.items()}
    return Comparison(title, "ms an image", [replace(row, details=sizes.get(row.name, {})) for row in rows])
