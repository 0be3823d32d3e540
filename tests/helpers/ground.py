"""A folder in which every command works, with small datasets, proposals, a teacher, a student and a cache."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.cached_scenes import write_random_boxes
from helpers.small_models import save_teacher, small_config, teacher_config
from helpers.untrained_run import split_tiny_scenes, write_run_thresholds, write_untrained_run
from mlickd.config import default_config
from mlickd.data import class_names, dataset_records, proposals_path
from mlickd.data.records import label_targets
from mlickd.distillation import KnowledgeRequest
from mlickd.distillation.cache import make_cache
from mlickd.evaluation.score_files import write_scores

_RUN = ["DATASETS.TRAIN", ("tiny_fit",), "DATASETS.TEST", ("tiny_val",), "SOLVER.IMS_PER_BATCH", 4]
_RUN += ["SOLVER.MAX_ITER", 1, "SOLVER.WARMUP_ITERS", 0, "OUTPUT_DIR", "out"]


def write_ground(root: Path, tiny_scenes: Path, patch: pytest.MonkeyPatch) -> Path:
    """Fill a folder and make it the current one; paths in its configurations are relative to it.

    ``datasets`` has the folder datasets ``tiny`` (splits fit and val) and ``other``, with one class. The folder also
    has ``cls.yaml``, ``wsd.yaml`` and ``kd.yaml``, ``teacher``, ``run`` (a student with scores and thresholds),
    ``knowledge`` and ``photo.jpg``.
    """
    data = split_tiny_scenes(tiny_scenes, root / "datasets")
    patch.setenv("DETECTRON2_DATASETS", str(data))
    patch.chdir(root)
    (data / "other").mkdir()
    (data / "other/images").symlink_to(data / "tiny/images")
    (data / "other/classes.txt").write_text("cat\n")
    (data / "other/labels_train.csv").write_text("file_name,labels\ntrain_00000.jpg,cat\n")
    shutil.copy(data / "tiny/images/train_00000.jpg", root / "photo.jpg")
    for name in ("tiny_fit", "tiny_val"):
        write_random_boxes(proposals_path(name, "edge_boxes"), name, seed=1)

    cfg = teacher_config()
    cfg.merge_from_list([*_RUN, "MODEL.NUM_CLASSES", 20, "MODEL.WSDDN.INIT_STD", 2.0])
    (root / "teacher").mkdir()
    save_teacher(root / "teacher", cfg)
    for name, base, options in (
        ("wsd", "Base-WSD", ["INPUT.SIZES_TRAIN", (64,), "INPUT.SIZE_TEST", 64]),
        ("cls", "Base-Classifier", ["INPUT.SIZES_TRAIN", (32,), "INPUT.SIZE_TEST", 32]),
        ("kd", "Base-Classifier", ["MODEL.META_ARCHITECTURE", "DistilledClassifier", "INPUT.SIZES_TRAIN", (32,)]),
    ):
        cfg = small_config(base, *_RUN, *options)
        cfg.KD.TEACHER.WEIGHTS = "teacher/model_final.pth" if name == "kd" else ""
        (root / f"{name}.yaml").write_text(cfg.dump())
    _write_student(root)
    _write_knowledge()
    return root


def _write_student(root: Path) -> None:
    run = write_untrained_run(root / "run")
    names, records = class_names("tiny_val"), dataset_records("tiny_val")
    (run / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    targets = label_targets(records, len(names))
    scores = np.random.default_rng(0).random(targets.shape).astype(np.float32)
    (run / "inference/tiny_val").mkdir(parents=True)
    ids = [record["image_id"] for record in records]
    write_scores("run/inference/tiny_val/image_scores.npz", ids, scores, targets, names)
    write_run_thresholds(run, names, [0.5] * 20)


def _write_knowledge() -> None:
    cfg = default_config()
    cfg.merge_from_file("kd.yaml")
    cfg.merge_from_list(["KD.CACHE", "knowledge", "MODEL.NUM_CLASSES", 20])
    make_cache(cfg, KnowledgeRequest(), mirrored=False)
