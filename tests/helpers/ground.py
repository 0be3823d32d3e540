"""A folder in which every command works, with small datasets, proposals, a teacher, a student and a cache."""

import json
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

_XML = """<annotation><size><width>{0[0]}</width><height>{0[1]}</height></size>
<object><name>cat</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>
</annotation>
"""
_RUN = ["DATASETS.TRAIN", ("tiny_fit",), "DATASETS.TEST", ("tiny_val",), "SOLVER.IMS_PER_BATCH", 4]
_RUN += ["SOLVER.MAX_ITER", 1, "SOLVER.WARMUP_ITERS", 0, "OUTPUT_DIR", "out"]


def write_ground(root: Path, tiny_scenes: Path, patch: pytest.MonkeyPatch) -> Path:
    """Fill a folder and make it the current one; paths in its configurations are relative to it.

    ``datasets`` has the folder dataset ``tiny`` (splits fit and val), the COCO-format ``boxed`` and two images of
    VOC 2007. The folder also has ``cls.yaml``, ``wsd.yaml`` and ``kd.yaml``, ``teacher``, ``run`` (a student with
    scores and thresholds), ``knowledge`` and ``photo.jpg``.
    """
    data = split_tiny_scenes(tiny_scenes, root / "datasets")
    patch.setenv("DETECTRON2_DATASETS", str(data))
    patch.chdir(root)
    _write_other_formats(data)
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


def _write_other_formats(data: Path) -> None:
    images = data / "tiny/images"
    names = sorted(path.name for path in images.glob("train_*.jpg"))[:2]
    (data / "boxed/images").mkdir(parents=True)
    voc = data / "VOC2007"
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (voc / folder).mkdir(parents=True)
    for name in names:
        shutil.copy(images / name, data / "boxed/images")
        shutil.copy(images / name, voc / "JPEGImages")
        (voc / f"Annotations/{name[:-4]}.xml").write_text(_XML.format((128, 128)))
    (voc / "ImageSets/Main/test.txt").write_text("".join(f"{name[:-4]}\n" for name in names))
    content = {
        "images": [{"id": i, "file_name": name, "height": 128, "width": 128} for i, name in enumerate(names)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": i + 1, "bbox": [1, 2, 30, 40], "iscrowd": 0} for i in range(2)
        ],
    }
    (data / "boxed/instances_train.json").write_text(json.dumps(content))


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
