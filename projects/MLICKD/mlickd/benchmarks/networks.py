"""The networks that are measured: teacher and student of the configurations that come along, with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from mlickd.engine import complete_config, load_config
from mlickd.errors import InputError

from .registry import Option
from .workspace import TEST, TRAIN

__all__ = ["NETWORKS", "Network", "config_file", "networks_option", "save_teacher"]

_CONFIGS = Path(__file__).parents[4] / "configs"


@dataclass(frozen=True)
class Network:
    """A teacher and a student of one kind.

    Attributes:
        title: for the reader.
        teacher, student, distilled: configuration files, below ``configs``.
        batch_size: of a training step that is measured.
    """

    title: str
    teacher: str
    student: str
    distilled: str
    batch_size: int

    def config(self, file: str, options: Mapping[str, Any], stage: str | None = None) -> CfgNode:
        """The configuration in one of this network's files, on the data of a workspace and on the CPU.

        Args:
            file: `teacher`, `student` or `distilled`.
            options: by key, over the file's.
            stage: of distillation.

        Raises:
            InputError: the project's configurations are not there.
        """
        of_benchmark = {
            "MODEL.DEVICE": "cpu",
            "MODEL.BACKBONE.WEIGHTS": "",
            "DATASETS.TRAIN": (TRAIN,),
            "DATASETS.TEST": (TEST,),
            "DATALOADER.NUM_WORKERS": 0,
            **options,
        }
        cfg = load_config(str(config_file(file)), [item for pair in of_benchmark.items() for item in pair], stage)
        cfg.INPUT.SIZES_TRAIN = (cfg.INPUT.SIZE_TEST,)
        complete_config(cfg)
        return cfg


NETWORKS = {
    "vgg16": Network("VGG16", "wsd_vgg16.yaml", "cls_vgg16.yaml", "kd_vgg16.yaml", batch_size=2),
    "efficientnet-lite0": Network(
        "EfficientNet-Lite0", "folder/wsd.yaml", "folder/cls.yaml", "folder/kd.yaml", batch_size=16
    ),
    "scenes": Network("network of scenes", "scenes/wsd.yaml", "scenes/cls.yaml", "scenes/kd.yaml", batch_size=4),
}


def config_file(name: str) -> Path:
    """A configuration that comes along, by its path below ``configs``.

    Raises:
        InputError: it is not there, because only the package is installed.
    """
    path = _CONFIGS / name
    if not path.is_file():
        raise InputError(f"{path}: no such file; run benchmarks in a checkout of the project")
    return path


def networks_option() -> Option:
    """Which of them a benchmark measures."""
    return Option("networks to measure", quick=("scenes",), choices=tuple(NETWORKS))


def save_teacher(cfg: CfgNode, folder: Path) -> Path:
    """Write a teacher with random weights as training leaves it; returns its checkpoint."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump(), encoding="utf-8")
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model_final.pth")
    return folder / "model_final.pth"
