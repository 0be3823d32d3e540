"""Finalized configurations, and a trainer of a small classifier on `tiny_train`."""

from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage

from helpers.small_models import CONFIGS, SMALL
from mlickd.engine import Trainer, finalize_config, load_config

DATA = ["DATASETS.TRAIN", ("tiny_train",), "DATASETS.TEST", ("tiny_test",)]


def final_config(config: str, *options: object, stage: str | None = None) -> CfgNode:
    """Return the finalized and frozen configuration of a shipped file."""
    cfg = load_config(str(CONFIGS / config), list(options), stage)
    finalize_config(cfg)
    cfg.freeze()
    return cfg


def make_trainer(output: Path, *options: object) -> Trainer:
    """Return the trainer of a run of four iterations with a checkpoint after each second one."""
    settings = [*SMALL, *DATA, "OUTPUT_DIR", str(output), "MODEL.VGG.NORM", "BN"]
    settings += ["SOLVER.MAX_ITER", 4, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.STEPS", (), "INPUT.SIZES_TRAIN", (32, 48)]
    settings += ["SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.WARMUP_ITERS", 1]
    torch.manual_seed(0)
    return Trainer(final_config("Base-Classifier.yaml", *settings, *options))


def finish(trainer: Trainer, resume: bool = False) -> dict[str, torch.Tensor]:
    """Train to the end, and return the parameters."""
    trainer.resume_or_load(resume=resume)
    super(Trainer, trainer).train()
    return trainer.model.state_dict()


def run_steps(loop: SimpleTrainer, steps: int = 1) -> dict[str, float]:
    """Run steps of a loop without hooks; return the losses that the last one logs."""
    with EventStorage() as storage:
        for loop.iter in range(steps):
            loop.storage = storage
            loop.run_step()
            storage.step()
    return {name: value for name, (value, _) in storage.latest().items() if "loss" in name}
