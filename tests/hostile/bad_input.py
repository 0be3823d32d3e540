"""Bad input, one case of each kind: the damage, the command that reads it, and the names in its message.

Paths are relative to the folder that `helpers.ground` writes.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mlickd.data import write_store

__all__ = ["CASES", "Damage"]

Damage = Callable[[], object]

TABLE, CLASSES = "datasets/tiny/labels_fit.csv", "datasets/tiny/classes.txt"
PHOTO = "datasets/tiny/images/train_00000.jpg"
STORE = "datasets/proposals/tiny_fit_edge_boxes"
BOXES, VOC_XML = "datasets/boxed/instances_train.json", "datasets/VOC2007/Annotations/train_00000.xml"
SHARD = "knowledge/tiny_fit/00000-of-00001.safetensors"

CLS, WSD = "train --config-file cls.yaml", "train --config-file wsd.yaml"
STAGE2 = "train --config-file kd.yaml --kd-stage prediction KD.METHOD_STAGES \"('prediction',)\""
CACHE = "cache-knowledge --config-file kd.yaml --no-features --no-mirrored {} KD.CACHE knowledge"
IMPORT = "convert-proposals import --format detectron2 --input p.pkl --dataset tiny_fit"
BOXED, VOC = "dataset-manifest boxed_train --output m", "dataset-manifest voc_2007_test_multilabel --output m"
PREDICT = "predict photo.jpg --model run"


class Hostile:
    """Unpickling it creates the file `ran`."""

    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def data(path: str, content: bytes | str) -> Damage:
    return lambda: Path(path).write_bytes(content.encode() if isinstance(content, str) else content)


def cut(path: str) -> Damage:
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[: Path(path).stat().st_size // 2])


def replaced(path: str, old: str, new: str) -> Damage:
    def replace() -> None:
        content = Path(path).read_text(encoding="utf-8")
        assert old in content, f"{path} has no {old}"
        Path(path).write_text(content.replace(old, new, 1), encoding="utf-8")

    return replace


def removed(path: str) -> Damage:
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def entry(path: str, *keys: object, value: object) -> Damage:
    """Set one value of a JSON file."""

    def change() -> None:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        node = content
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value
        Path(path).write_text(json.dumps(content), encoding="utf-8")

    return change


def rows(*lines: str) -> Damage:
    return data(TABLE, "".join(f"{line}\n" for line in ("file_name,labels", *lines)))


def boxes(first: list[float], skip: int = 0) -> Damage:
    """Write proposals of the training images: this box for the first one, none for the last ones."""

    def write() -> None:
        names = [line.split(",")[0] for line in Path(TABLE).read_text().splitlines()[1:]]
        one = np.ones(1, np.float32)
        items = [(name, np.array([[0, 0, 128, 128]], np.float32), one) for name in names[1 : len(names) - skip]]
        items.append((names[0], np.array([first], np.float32), one))
        write_store(STORE, items, method="edge_boxes", parameters={}, image_digest="")

    return write


def checkpoint(path: str, content: object) -> Damage:
    return lambda: torch.save(content, path)


# Command, names that the message must contain, and the change of the folder before.
CASES: list[tuple[str, str, Damage | None]] = [
    # Images
    ("predict cut.jpg --model run", "cut.jpg", lambda: (shutil.copy("photo.jpg", "cut.jpg"), cut("cut.jpg")())),
    ("predict large.png --model run", "large.png", lambda: Image.new("1", (20_000, 20_000)).save("large.png")),
    ("predict new.heic --model run", "new.heic", data("new.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")),
    ("predict 'photos/*.jpg' --model run", "photos/*.jpg", None),
    (CLS, "train_00000.jpg", data(PHOTO, "text")),
    (CLS, "labels_fit.csv lists it", removed(PHOTO)),
    # Labels
    (CLS, "labels_fit.csv: line 2: label 'unicorn'", rows("train_00000.jpg,unicorn")),
    (CLS, "'train_00000.jpg'", rows("train_00000.jpg,", "train_00000.jpg,")),
    (CLS, "labels_fit.csv", data(TABLE, b"file_name,labels\n\xff\xfe,\n")),
    (CLS, "'../../photo.jpg'", rows("../../photo.jpg,")),
    (CLS, "'tiny_fit'", removed(TABLE)),
    (CLS, "classes.txt: line 2", data(CLASSES, "cat\ncat\n")),
    (f"{CLS} DATASETS.TRAIN \"('boxed_train',)\"", "boxed_train", None),
    # COCO and VOC
    (BOXED, "instances_train.json", cut(BOXES)),
    (BOXED, "instances_train.json", entry(BOXES, "annotations", 0, "image_id", value=7)),
    (BOXED, "instances_train.json", entry(BOXES, "annotations", 0, "bbox", value=[1, 2, 300, 4])),
    (VOC, "train_00000.xml", data(VOC_XML, "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>")),
    # Proposals
    (WSD, "tiny_fit_edge_boxes", removed(STORE)),
    (WSD, "00000-of-00001.safetensors", cut(f"{STORE}/00000-of-00001.safetensors")),
    (WSD, "tiny_fit_edge_boxes", boxes([0, 0, float("nan"), 5])),
    (WSD, "image train_", boxes([0, 0, 5, 5], skip=1)),
    (IMPORT, "p.pkl", lambda: Path("p.pkl").write_bytes(pickle.dumps(Hostile()))),
    ("generate-proposals --dataset tiny_fit --method magic", "magic", None),
    # Knowledge caches
    (f"{CACHE.format('--check')}-gone", "knowledge-gone/tiny_fit", None),
    (CACHE.format("--check"), "00000-of-00001.safetensors", cut(SHARD)),
    (f"{CACHE.format('--check')} KD.TEACHER.FLIP True", "KD.TEACHER.FLIP", None),
    (CACHE.format("--shard 3/2"), "3/2", None),
    # Checkpoints
    (f"{CLS} MODEL.WEIGHTS gone.pth", "MODEL.WEIGHTS gone.pth", None),
    (f"{CLS} MODEL.WEIGHTS teacher/model_final.pth", "MODEL.WEIGHTS teacher/model_final.pth", None),
    (f"{CLS} MODEL.BACKBONE.WEIGHTS b.pth", "b.pth", checkpoint("b.pth", {"a": torch.zeros(1)})),
    (f"{CLS} MODEL.BACKBONE.WEIGHTS b.pkl", "b.pkl", lambda: Path("b.pkl").write_bytes(pickle.dumps(Hostile()))),
    (PREDICT, "run/model_final.pth", cut("run/model_final.pth")),
    (PREDICT, "run/model_final.pth", checkpoint("run/model_final.pth", {"model": Hostile()})),
    (STAGE2, "19 classes", replaced("teacher/config.yaml", "NUM_CLASSES: 20\n", "NUM_CLASSES: 19\n")),
    (f"{STAGE2} KD.TEACHER.WEIGHTS run/model_final.pth", "run/", None),
    # Configurations
    ("train --config-file gone.yaml", "--config-file gone.yaml", None),
    (CLS, "SOLVER.BASE_LRR", data("cls.yaml", "SOLVER:\n  BASE_LRR: 1.0\n")),
    (CLS, "gone.yaml", data("cls.yaml", "_BASE_: gone.yaml\n")),
    (PREDICT, "run/config.yaml", data("run/config.yaml", "SEED: !!python/object/apply:os.mkdir [ran]\n")),
    (f"{CLS} SOLVER.BASE_LR fast", "SOLVER.BASE_LR", None),
    (f"{CLS} SOLVER.BASE_LR", "SOLVER.BASE_LR", None),
    (f"{CLS} SOLVER.MAX_ITER 0", "SOLVER.MAX_ITER 0", None),
    (f"{CLS} SOLVER.MAX_ITER 2 --resume", "--resume", None),
    (f"{CLS} MODEL.NUM_CLASSES 7", "MODEL.NUM_CLASSES 7", None),
    (f"{CLS} DATASETS.TRAIN \"('gone_train',)\"", "'gone_train'", None),
    (f"{CLS} TEST.THRESHOLD 7.0", "TEST.THRESHOLD", None),
    # What runs leave
    (PREDICT, "thresholds.json", entry("run/thresholds.json", "thresholds", 0, value=7)),
    (PREDICT, "thresholds.json", entry("run/thresholds.json", "checkpoint_sha256", value="0")),
    (f"{STAGE2} KD.PREDICTION.CALIBRATION calibration.json", "calibration.json", cut("calibration.json")),
    ("evaluate run", "image_scores.npz", cut("run/inference/tiny_val/image_scores.npz")),
    ("dataset-manifest tiny_fit --check m", "m: ", data("m", '{"manifest": 1}\n')),
    ("predict photo.jpg --model student.onnx", "student.onnx", data("student.onnx", "text")),
    # Command lines
    ("trian", "train", None),
    ("train --config-file kd.yaml --kd-stage third", "--kd-stage third", None),
    (STAGE2.partition(" KD.METHOD_STAGES")[0], "stage 1", None),
    ("predict photo.jpg --model run --json photo.jpg/a.json", "photo.jpg/a.json", None),
    ("compare --seeds 1,x", "--seeds: 1,x", None),
    (f"{CLS} --num-gpus 3", "SOLVER.IMS_PER_BATCH 4", None),
]
