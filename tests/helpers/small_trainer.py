"""A trainer of a small classifier on `tiny_train`."""

from __future__ import annotations

from pathlib import Path

import torch

from helpers.small_models import CONFIGS
from mlickd.engine import Trainer, finalize_config, load_config


def make_trainer(output: Path, *options: object) -> Trainer:
    """Return the trainer of a run of four iterations with a checkpoint after each second one."""
    settings = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)", "OUTPUT_DIR", str(output)]
    settings += ["MODEL.VGG.DEPTH", 11, "MODEL.VGG.NORM", "BN", "MODEL.VGG.WIDTH", 0.1, "INPUT.SIZES_TRAIN", "(32, 48)"]
    settings += ["SOLVER.MAX_ITER", 4, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.STEPS", "()"]
    settings += ["SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.WARMUP_ITERS", 1, "DATALOADER.NUM_WORKERS", 0]
    cfg = load_config(str(CONFIGS / "Base-Classifier.yaml"), [*settings, *options])
    finalize_config(cfg)
    cfg.freeze()
    torch.manual_seed(0)
    return Trainer(cfg)


def finish(trainer: Trainer, resume: bool) -> dict[str, torch.Tensor]:
    """Train to the end, and return the parameters."""
    trainer.resume_or_load(resume=resume)
    super(Trainer, trainer).train()
    return trainer.model.state_dict()
