"""Tiny training runs of each kind: teacher, both stages of distillation, and the baseline."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode

from helpers.cached_scenes import CachedScenes, write_random_boxes
from helpers.small_models import student_config, teacher_config
from mlickd.data.scenes import write_scenes

KINDS = ("teacher", "stage 1", "stage 2 live", "stage 2 cached", "student")
MAX_ITER = 8
# With crops, mirrored views, dropout, a step of the schedule, and an evaluation during training.
_TRAINING = ["SEED", 3, "SOLVER.MAX_ITER", MAX_ITER, "SOLVER.STEPS", (6,), "SOLVER.WARMUP_ITERS", 2]
_TRAINING += ["SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.KEEP_CHECKPOINTS", 2, "SOLVER.IMS_PER_BATCH", 4]
_TRAINING += ["TEST.EVAL_PERIOD", 4, "TENSORBOARD.IMAGES", 0, "INPUT.SIZE_TEST", 32]
_TRAINING += ["MODEL.CLASSIFIER.DROPOUT", 0.5, "INPUT.RANDOM_CROP.ENABLED", True, "MODEL.NUM_CLASSES", 20]
_TRAINING += ["DATASETS.TRAIN", ("tiny_train",), "DATASETS.TEST", ("tiny_test",)]


@dataclass
class RunKinds:
    """Files for all kinds of runs: an untrained teacher, its knowledge cache, and proposals for both splits."""

    scenes: CachedScenes
    cache: Path
    test_proposals: Path

    @classmethod
    def create(cls, folder: Path) -> RunKinds:
        """Write all files into a folder, with a dataset `tiny`, and set DETECTRON2_DATASETS."""
        write_scenes(folder / "datasets" / "tiny", {"train": 24, "test": 12}, side=64, seed=1)
        os.environ["DETECTRON2_DATASETS"] = str(folder / "datasets")
        scenes = CachedScenes.create(folder / "made")
        kinds = cls(scenes, scenes.folder / "cache", scenes.folder / "test_proposals")
        scenes.make("cache", "INPUT.RANDOM_CROP.ENABLED", True)
        write_random_boxes(kinds.test_proposals, "tiny_test", seed=2)
        return kinds

    @classmethod
    def open(cls, folder: Path) -> RunKinds:
        """Return the files that `create` wrote, perhaps in another process, and set DETECTRON2_DATASETS."""
        os.environ["DETECTRON2_DATASETS"] = str(folder / "datasets")
        made = folder / "made"
        scenes = CachedScenes(made, made / "model_final.pth", made / "proposals")
        return cls(scenes, made / "cache", made / "test_proposals")

    def config(self, kind: str, output: Path, *options: object) -> CfgNode:
        """Return the configuration of a run of one of `KINDS`, complete and frozen."""
        proposals = ["DATASETS.PROPOSALS.TRAIN_FILES", (str(self.scenes.proposals),)]
        proposals += ["DATASETS.PROPOSALS.TEST_FILES", (str(self.test_proposals),)]
        settings = [*_TRAINING, *proposals, "OUTPUT_DIR", str(output), "SOLVER.BASE_LR", 0.001]
        if kind == "teacher":
            cfg = teacher_config()
            cfg.merge_from_list([*settings, "INPUT.SIZES_TRAIN", (32, 48)])
        elif kind == "student":
            cfg = student_config(self.scenes.teacher, "", *settings, "MODEL.META_ARCHITECTURE", "MultiLabelClassifier")
        else:
            stage, *how = {"stage 1": ("feature",), "stage 2 live": ("prediction",)}.get(kind, ("prediction", "cached"))
            cache = self.cache if how else ""
            cfg = self.scenes.config(stage, cache, *settings)
        cfg.merge_from_list(list(options))
        cfg.freeze()
        return cfg


def train_arguments(cfg: CfgNode, resume: bool) -> argparse.Namespace:
    """Write the configuration, and return the arguments that `train_net.py` passes to each process."""
    file = Path(f"{cfg.OUTPUT_DIR}.yaml")
    file.write_text(cfg.dump())
    return argparse.Namespace(
        config_file=str(file),
        opts=[],
        num_gpus=1,
        num_machines=1,
        eval_only=False,
        kd_stage=None,
        resume=resume,
    )
