"""Networks of the shipped configurations with random weights, and synthetic images as their inputs."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mlickd.data import dataset_records, proposals_path
from mlickd.data.proposals.dataset_proposals import generate_proposals
from mlickd.data.scenes import write_scenes
from mlickd.engine import Trainer, finalize_config, load_config
from mlickd.engine.hooks import StopHook
from mlickd.environment import keep_freed_memory
from mlickd.runs import write_run_files

CONFIGS = Path(__file__).parents[3] / "configs"
# Configuration files of each network, with a placeholder for `wsd`, `cls` or `kd`, and batch sizes of training.
NETWORKS = {"vgg16": "{}_vgg16.yaml", "efficientnet-lite0": "folder/{}.yaml"}
BATCH_SIZES = {"vgg16": 2, "efficientnet-lite0": 16}
# Names of the synthetic datasets.
TRAIN, TEST = "benchmark_train", "benchmark_test"


def network_config(network: str, kind: str, stage: str | None = None, **options: Any) -> CfgNode:
    """Return a complete configuration of kind `wsd`, `cls` or `kd` for the synthetic datasets and the CPU.

    ``options`` override values of the file; ``__`` in their names stands for a dot.
    """
    values = {
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.WEIGHTS": "",
        "DATASETS.TRAIN": (TRAIN,),
        "DATASETS.TEST": (TEST,),
        "DATALOADER.NUM_WORKERS": 0,
        **{key.replace("__", "."): value for key, value in options.items()},
    }
    file = CONFIGS / NETWORKS[network].format(kind)
    cfg = load_config(str(file), [item for pair in values.items() for item in pair], stage)
    cfg.INPUT.SIZES_TRAIN = (cfg.INPUT.SIZE_TEST,)
    finalize_config(cfg)
    return cfg


@contextmanager
def synthetic_datasets(num_images: int, *, proposals: bool = True) -> Iterator[Path]:
    """Draw datasets of ``num_images`` images, optionally with EdgeBoxes, in a temporary DETECTRON2_DATASETS."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, DETECTRON2_DATASETS=folder):
        write_scenes(Path(folder) / "benchmark", {"train": num_images, "test": num_images}, 384)
        for name in (TRAIN, TEST) if proposals else ():
            generate_proposals(dataset_records(name), "edge_boxes", None, proposals_path(name, "edge_boxes"))
        yield Path(folder)


def module_environment() -> dict[str, str]:
    """Return the environment of a process that imports ``benchmarks`` and ``mlickd``."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def write_run(cfg: CfgNode, folder: Path) -> str:
    """Write the files of a run with random weights. Return the path of its checkpoint."""
    cfg = cfg.clone()
    cfg.OUTPUT_DIR = str(folder)
    write_run_files(cfg)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model_final.pth")
    return str(folder / "model_final.pth")


class TrainingStep:
    """A callable that makes one training step per call: knowledge, forward, backward, optimizer.

    Args:
        cfg: complete configuration; weights stay random.
    """

    def __init__(self, cfg: CfgNode):
        keep_freed_memory()  # as `mlickd train` does
        self.trainer = Trainer(cfg)
        # A step does not stop for a signal, so Ctrl-C must end the process.
        self.trainer._hooks = [hook for hook in self.trainer._hooks if not isinstance(hook, StopHook)]
        for writer in self.trainer._curves:  # a step does not write
            writer.close()
        batches = list(islice(self.trainer.data_loader, 2))  # steps do not wait for the loader
        # The samples are copied because the trainer adds knowledge to them.
        copies = ([dict(sample) for sample in batch] for batch in cycle(batches))
        # The hooks need the trainer as it is at the start of training.
        self.trainer.iter = 0
        self.trainer._trainer.reset_data_loader(lambda: copies)
        self.trainer.storage = EventStorage(0)
        with self.trainer.storage:
            self.trainer.before_train()

    def __call__(self) -> None:
        with self.trainer.storage:
            self.trainer.run_step()
