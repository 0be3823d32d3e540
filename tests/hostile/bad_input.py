"""The table of bad input: what is damaged, the command that meets it, and what it says.

Paths are relative to a folder as `helpers.ground` writes it.
"""

from __future__ import annotations

import json
import pickle
import shlex
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mlickd.data import write_store

__all__ = ["CASES", "Case"]

FIT, VAL = "datasets/tiny/labels_fit.csv", "datasets/tiny/labels_val.csv"
PHOTO = "datasets/tiny/images/train_00000.jpg"
STORE = "datasets/proposals/tiny_fit_edge_boxes.proposals"
SHARD = "knowledge/tiny_fit/shard-1-of-1"
BOXES, VOC = "datasets/boxed/instances_train.json", "datasets/VOC2007"

CLS, WSD = "train --config-file cls.yaml", "train --config-file wsd.yaml"
STAGE1 = "train --config-file kd.yaml --kd-stage feature"
STAGE2 = "train --config-file kd.yaml --kd-stage prediction KD.STAGES \"('prediction',)\""
CACHED = "cache-knowledge --config-file kd.yaml --no-features --no-mirrored --check KD.CACHE knowledge"
CACHING = "cache-knowledge --config-file kd.yaml --no-features --no-mirrored KD.CACHE new"
MANIFEST = "dataset-manifest {} --output out.manifest"
PREDICT = "predict photo.jpg --model run --threshold 0.5"

BOXED = "DATASETS.TRAIN \"('boxed_train',)\" DATASETS.TEST \"('boxed_train',)\""

Damage = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """
    Attributes:
        of: the group in the table.
        what: is wrong, in words.
        command: of `mlickd`.
        says: a part of the message.
        damage: done to the folder before.
        needs: packages that are optional, without which the command says that they are missing.
    """

    of: str
    what: str
    command: str
    says: str
    damage: Damage | None = None
    needs: tuple[str, ...] = ()


def text(path: str, content: str) -> Damage:
    return lambda: Path(path).write_text(content, encoding="utf-8")


def data(path: str, content: bytes) -> Damage:
    return lambda: Path(path).write_bytes(content)


def cut(path: str, part: float = 0.5) -> Damage:
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[: int(Path(path).stat().st_size * part)])


def replaced(path: str, old: str, new: str) -> Damage:
    def replace() -> None:
        content = Path(path).read_text(encoding="utf-8")
        assert old in content, f"{path} has no {old}"
        Path(path).write_text(content.replace(old, new, 1), encoding="utf-8")

    return replace


def removed(path: str) -> Damage:
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def folder_at(path: str) -> Damage:
    def replace() -> None:
        Path(path).unlink(missing_ok=True)
        Path(path).mkdir()

    return replace


def entry(path: str, *keys: object, value: object) -> Damage:
    """Of JSON, one value is another."""

    def change() -> None:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        node = content
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value
        Path(path).write_text(json.dumps(content), encoding="utf-8")

    return change


def rows(*lines: str, table: str = FIT) -> Damage:
    return text(table, "".join(f"{line}\n" for line in lines))


def boxes(of_first: list[float], score: float = 1.0, skip: int = 0, extra: str = "") -> Damage:
    """Proposals of the training images, of which the first has this box; the last ones may be missing."""

    def write() -> None:
        names = [line.split(",")[0] for line in Path(FIT).read_text().splitlines()[1:]]
        whole = np.array([[0, 0, 128, 128]], dtype=np.float32)
        items = [(name, whole, np.ones(1, np.float32)) for name in names[1 : len(names) - skip]]
        items.append((names[0], np.array([of_first], dtype=np.float32), np.array([score], dtype=np.float32)))
        write_store(STORE, items, method="edge_boxes", parameters={}, image_digest=extra)

    return write


def array(path: str, value: np.ndarray) -> Damage:
    return lambda: np.save(path, value)


def picture(path: str, mode: str, size: tuple[int, int], **options: object) -> Damage:
    return lambda: Image.new(mode, size).save(path, **options)


class Hostile:
    """A pickle of it leaves a file `ran` when it is loaded."""

    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def checkpoint(path: str, content: object) -> Damage:
    return lambda: torch.save(content, path)


def archive(path: str, **entries: str) -> Damage:
    def write() -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name, content in entries.items():
                file.writestr(name, content)

    return write


def foreign_onnx() -> None:
    """A network that this project has not exported."""
    import onnx

    kind = onnx.TensorProto.FLOAT
    ends = [onnx.helper.make_tensor_value_info(name, kind, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, "student.onnx")


def turned(path: str, size: tuple[int, int]) -> Damage:
    """A photo that a phone held upright has written: lying pixels, and the order to turn them."""

    def write() -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", size).save(path, exif=exif)

    return write


def columns(cell: str) -> Damage:
    """A table with a column for each class; the first cell of the first is this one."""

    def write() -> None:
        names = Path("datasets/tiny/classes.txt").read_text().split()
        cells = [cell, *["0"] * (len(names) - 1)]
        Path(FIT).write_text(f"file_name,{','.join(names)}\ntrain_00000.jpg,{','.join(cells)}\n")

    return write


def detectron2_boxes(of_each: list[list[float]]) -> Damage:
    """A file of Detectron2's with these boxes for each training image."""

    def write() -> None:
        names = [line.split(",")[0] for line in Path(FIT).read_text().splitlines()[1:]]
        boxes, scores = np.array(of_each, np.float32), np.ones(len(of_each), np.float32)
        content = {"ids": names, "boxes": [boxes] * len(names), "objectness_logits": [scores] * len(names)}
        Path("p.pkl").write_bytes(pickle.dumps({**content, "bbox_mode": 0}))

    return write


# How such a file begins; there is nothing behind it that is needed to tell it.
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
HOSTILE_YAML = "SOLVER:\n  STEPS: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [ran]]\n"

CASES = [
    # Images
    Case("image", "a JPEG that is cut short", CLS, "train_00000.jpg: unreadable or truncated image", cut(PHOTO)),
    Case("image", "a file of 0 bytes", CLS, "train_00000.jpg: not a readable image", data(PHOTO, b"")),
    Case("image", "text that is called a photo", CLS, "train_00000.jpg: not a readable image", text(PHOTO, "hello")),
    Case("image", "a folder in its place", CLS, "train_00000.jpg: a folder, but", folder_at(PHOTO)),
    Case("image", "missing", CLS, "train_00000.jpg: image file not found, but", removed(PHOTO)),
    Case("image", "32-bit pixels", CLS, "32-bit pixels of mode F", picture(PHOTO, "F", (8, 8), format="TIFF")),
    Case(
        "image", "of another size than its record", f"{CLS} {BOXED}", "is 64x48 pixels, its record says 128x128",
        picture("datasets/boxed/images/train_00000.jpg", "RGB", (64, 48)),
    ),
    Case(
        "image", "too many pixels, to predict", "predict photo.png --model run",
        "photo.png: has more than 179 million pixels", picture("photo.png", "1", (20_000, 20_000)),
    ),
    Case("image", "PostScript that is called a photo", "predict eps.jpg --model run", "it is in no format of photos",
         picture("eps.jpg", "RGB", (8, 8), format="EPS")),
    Case("image", "HEIC, as phones write it", CLS, "it is HEIC", data(PHOTO, HEIC)),
    Case("image", "HEIC, to predict", "predict new.heic --model run", "new.heic: cannot be read as an image (it is",
         data("new.heic", HEIC)),
    Case("image", "spelt in other letters", CLS, "write 'train_00000.JPG' there",
         lambda: Path(PHOTO).rename(Path(PHOTO).with_suffix(".JPG"))),
    Case("image", "turned by EXIF, its record not", f"{CLS} {BOXED}", "is 48x64 pixels with its EXIF orientation",
         turned("datasets/boxed/images/train_00000.jpg", (64, 48))),
    Case("image", "a pattern that no photo has", "predict 'photos/*.jpg' --model run", "photos/*.jpg: no image there"),
    Case("image", "none in the folder", "predict datasets/proposals --model run", "datasets/proposals"),
    # Labels
    Case("labels", "no header", CLS, "labels_fit.csv: line 1: the header is", rows("train_00000.jpg,cat")),
    Case("labels", "an unknown class", CLS, "line 2: label 'unicorn' is not in",
         rows("file_name,labels", "train_00000.jpg,unicorn")),
    Case("labels", "an empty file name", CLS, "line 2", rows("file_name,labels", ",cat")),
    Case("labels", "an image twice", CLS, "duplicate image id 'train_00000.jpg'",
         rows("file_name,labels", "train_00000.jpg,", "train_00000.jpg,")),
    Case("labels", "a NUL", CLS, "line 2: a NUL character", rows("file_name,labels", "a\0b.jpg,")),
    Case("labels", "not UTF-8", CLS, "labels_fit.csv: not UTF-8 text", data(FIT, b"file_name,labels\n\xff\xfe,\n")),
    Case("labels", "a field too many", CLS, "line 2: 3 fields where 2 are due",
         rows("file_name,labels", "train_00000.jpg,cat,dog")),
    Case("labels", "a column missing", CLS, "line 1", rows("file_name,cat", "train_00000.jpg,1")),
    Case("labels", "UTF-16, as Excel's Unicode text", CLS, "not UTF-8 text (it is UTF-16)",
         data(FIT, "file_name,labels\ntrain_00000.jpg,cat\n".encode("utf-16"))),
    Case("labels", "semicolons between the columns", CLS, "save the table with commas",
         rows("file_name;labels", "train_00000.jpg;cat")),
    Case("labels", "a word in the column of a class", CLS, "line 2: 'yes' for class", columns("yes")),
    Case("labels", "a folder in place of the table", CLS, "labels_fit.csv", folder_at(FIT)),
    Case("labels", "a folder in place of the classes", CLS, "classes.txt: is a folder",
         folder_at("datasets/tiny/classes.txt")),
    Case("labels", "no image at all", CLS, "labels_fit.csv: the split is empty", rows("file_name,labels")),
    Case("labels", "an empty file", CLS, "labels_fit.csv: line 1", text(FIT, "")),
    Case("labels", "a path out of the folder", CLS, "'../../photo.jpg' is not inside images/",
         rows("file_name,labels", "../../photo.jpg,")),
    Case("labels", "an absolute path", CLS, "'/etc/passwd' is not inside images/",
         rows("file_name,labels", "/etc/passwd,")),
    Case("labels", "the table is missing", CLS, "data set 'tiny_fit'", removed(FIT)),
    Case("labels", "no classes", CLS, "classes.txt: no class", text("datasets/tiny/classes.txt", "\n")),
    Case("labels", "a class twice", CLS, "classes.txt: line 2: class 'cat' is also in line 1",
         text("datasets/tiny/classes.txt", "cat\ncat\n")),
    Case("labels", "the images are missing", CLS, "image folder of", removed("datasets/tiny/images")),
    Case("labels", "classes of two data sets differ", f"{CLS} {BOXED.partition(' DATASETS.TEST')[0]}",
         "data sets boxed_train and tiny_val have different classes"),
    # COCO and VOC
    Case("COCO", "no JSON", MANIFEST.format("boxed_train"), "not a readable JSON file", cut(BOXES)),
    Case("COCO", "a list in place of an object", MANIFEST.format("boxed_train"), "not in COCO format",
         text(BOXES, "[1, 2]")),
    Case("COCO", "a box of an unknown image", MANIFEST.format("boxed_train"), "image 7 is not in 'images'",
         entry(BOXES, "annotations", 0, "image_id", value=7)),
    Case("COCO", "a box of an unknown category", MANIFEST.format("boxed_train"), "category 9 is not in 'categories'",
         entry(BOXES, "annotations", 0, "category_id", value=9)),
    Case("COCO", "an image without its size", MANIFEST.format("boxed_train"), "'height' and 'width' must be positive",
         entry(BOXES, "images", 0, "height", value=None)),
    Case("COCO", "a folder in its place", MANIFEST.format("boxed_train"), "instances_train.json", folder_at(BOXES)),
    Case("COCO", "a box out of its image", MANIFEST.format("boxed_train"), "leaves the image of 128x128",
         entry(BOXES, "annotations", 0, "bbox", value=[1, 2, 300, 4])),
    Case("COCO", "a box of NaN", MANIFEST.format("boxed_train"), "is not finite",
         entry(BOXES, "annotations", 0, "bbox", value=[1, 2, float("nan"), 4])),
    Case("COCO", "a path out of the folder", MANIFEST.format("boxed_train"), "is not inside",
         entry(BOXES, "images", 0, "file_name", value="../../../photo.jpg")),
    Case("COCO", "two images of one id", MANIFEST.format("boxed_train"), "id 1 occurs twice in 'images'",
         entry(BOXES, "images", 0, "id", value=1)),
    Case("VOC", "no XML", MANIFEST.format("voc_2007_test_multilabel"), "not readable XML",
         cut(f"{VOC}/Annotations/train_00000.xml")),
    Case("VOC", "entities, which can grow", MANIFEST.format("voc_2007_test_multilabel"), "document type declaration",
         text(f"{VOC}/Annotations/train_00000.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>")),
    Case("VOC", "an unknown class", MANIFEST.format("voc_2007_test_multilabel"), "'unicorn' is not a class of VOC",
         replaced(f"{VOC}/Annotations/train_00000.xml", "cat", "unicorn")),
    # Proposals
    Case("proposals", "missing", WSD, "tiny_fit_edge_boxes.proposals", removed(STORE)),
    Case("proposals", "cut short", WSD, "cut short; make it again", cut(STORE)),
    Case("proposals", "another version", WSD, "has format version 9, not 1",
         lambda: Path(STORE).write_bytes(b"MLICKDPR\x09" + Path(STORE).read_bytes()[9:])),
    Case("proposals", "text", WSD, "is not a proposal store", text(STORE, "hello")),
    Case("proposals", "NaN", WSD, "is not finite", boxes([0, 0, float("nan"), 5])),
    Case("proposals", "a score of NaN", WSD, "has the score nan", boxes([0, 0, 5, 5], score=float("nan"))),
    Case("proposals", "out of the image", WSD, "is not inside the image of 128 x 128", boxes([0, 0, 500, 5])),
    Case("proposals", "inverted", WSD, "is inverted", boxes([9, 9, 5, 5])),
    Case("proposals", "an image is missing", WSD, "no proposals for image train_", boxes([0, 0, 5, 5], skip=1)),
    Case("proposals", "a hostile pickle to import",
         "convert-proposals import --format detectron2 --input p.pkl --dataset tiny_fit",
         "not a pickle of arrays and plain containers", lambda: Path("p.pkl").write_bytes(pickle.dumps(Hostile()))),
    Case("proposals", "a .mat that is none",
         "convert-proposals import --format wsddn --input p.mat --dataset tiny_fit",
         "not a readable .mat file", text("p.mat", "hello")),
    Case("proposals", "text to export", "convert-proposals export --input photo.jpg --output new/p.pkl",
         "is not a proposal store"),
    Case("proposals", "a box left of the image to import",
         "convert-proposals import --format detectron2 --input p.pkl --dataset tiny_fit", "it leaves the image of",
         detectron2_boxes([[-9.0, 0.0, 5.0, 5.0]])),
    Case("proposals", "of other images to import",
         "convert-proposals import --format detectron2 --input p.pkl --dataset tiny_val", "train_0",
         detectron2_boxes([[0.0, 0.0, 5.0, 5.0]])),
    Case("proposals", "too few files for the data sets",
         f"{WSD} DATASETS.PROPOSALS.TRAIN_FILES \"('a','b')\"", "DATASETS.PROPOSALS.TRAIN_FILES ('a', 'b')"),
    Case("proposals", "an unknown method", "generate-proposals --dataset tiny_fit --method magic", "magic"),
    # Caches
    Case("cache", "missing", f"{CACHED}-gone", "KD.CACHE knowledge-gone", None),
    Case("cache", "the header is damaged", CACHED, "header.json: cannot be read", cut(f"{SHARD}/header.json")),
    Case("cache", "the header is a list", CACHED, "header.json: damaged", text(f"{SHARD}/header.json", "[]")),
    Case("cache", "an array is cut short", CACHED, "class_logits.npy: missing, cut short",
         cut(f"{SHARD}/class_logits.npy")),
    Case("cache", "an array of another shape", CACHED, "boxes.npy: holds float32 (3, 4)",
         array(f"{SHARD}/boxes.npy", np.zeros((3, 4), np.float32))),
    Case("cache", "images that are not done", CACHED, "8 of 8 images are not done",
         array(f"{SHARD}/done.npy", np.zeros(8, np.uint8))),
    Case("cache", "of another teacher", CACHED, "made with another teacher",
         entry(f"{SHARD}/header.json", "teacher", value="0" * 64)),
    Case("cache", "of other images", CACHED, "made with",
         rows("file_name,labels", *(f"train_{number:05d}.jpg," for number in range(1, 9)))),
    Case("cache", "a shard is missing", CACHED, "shard 2/2 is missing",
         lambda: Path(SHARD).rename("knowledge/tiny_fit/shard-1-of-2")),
    # Checkpoints
    Case("checkpoint", "missing", f"{CLS} MODEL.WEIGHTS gone.pth", "MODEL.WEIGHTS gone.pth: no such file"),
    Case("checkpoint", "cut short, to predict", PREDICT, "is not a readable checkpoint", cut("run/model_final.pth")),
    Case("checkpoint", "text, to predict", PREDICT, "is not a readable checkpoint", text("run/model_final.pth", "hi")),
    Case("checkpoint", "a hostile pickle, to predict", PREDICT, "is not a readable checkpoint",
         checkpoint("run/model_final.pth", {"model": Hostile()})),
    Case("checkpoint", "a hostile pickle without the archive", PREDICT, "is not a readable checkpoint",
         lambda: Path("run/model_final.pth").write_bytes(pickle.dumps({"model": Hostile()}))),
    Case("checkpoint", "a hostile .pkl", "predict photo.jpg --model run/h.pkl --config-file run/config.yaml", "h.pkl",
         lambda: Path("run/h.pkl").write_bytes(pickle.dumps({"model": Hostile()}))),
    Case("checkpoint", "a list", PREDICT, "holds no named parameters", checkpoint("run/model_final.pth", [1])),
    Case("checkpoint", "of another model", PREDICT, "is not a checkpoint of this MultiLabelClassifier",
         lambda: shutil.copy("teacher/model_final.pth", "run/model_final.pth")),
    Case("checkpoint", "of another model, to train from", f"{CLS} MODEL.WEIGHTS teacher/model_final.pth",
         "MODEL.WEIGHTS teacher/model_final.pth is not a checkpoint of this MultiLabelClassifier"),
    Case("checkpoint", "of another model, to evaluate", f"{CLS} --eval-only MODEL.WEIGHTS teacher/model_final.pth",
         "MODEL.WEIGHTS teacher/model_final.pth is not a checkpoint of this MultiLabelClassifier"),
    Case("checkpoint", "of another model, to go on from", f"train --resume {WSD[6:]} OUTPUT_DIR run",
         "--resume run/model_final.pth is not a checkpoint of this WeaklySupervisedDetector",
         text("run/last_checkpoint", "model_final.pth")),
    Case("checkpoint", "none yet, to evaluate", f"{CLS} --eval-only",
         "MODEL.WEIGHTS out/model_final.pth: no such file"),
    Case("checkpoint", "a photo, to predict", "predict photo.jpg --model photo.jpg", "checkpoint photo.jpg is not a"),
    Case("checkpoint", "a configuration, to predict", "predict photo.jpg --model run/config.yaml",
         "checkpoint run/config.yaml is not a"),
    Case("checkpoint", "an address, to train from",
         f"{CLS} MODEL.WEIGHTS detectron2://ImageNetPretrained/MSRA/R-50.pkl", "is an address"),
    Case("checkpoint", "a folder, to train from", f"{CLS} MODEL.WEIGHTS run", "MODEL.WEIGHTS run: is a folder"),
    Case("checkpoint", "cut short, to train from", f"{CLS} MODEL.WEIGHTS teacher/model_final.pth",
         "MODEL.WEIGHTS teacher/model_final.pth is not a readable checkpoint", cut("teacher/model_final.pth")),
    Case("checkpoint", "a backbone that does not fit", f"{CLS} MODEL.BACKBONE.WEIGHTS b.pth",
         "MODEL.BACKBONE.WEIGHTS b.pth does not fit", checkpoint("b.pth", {"a": torch.zeros(1)})),
    Case("checkpoint", "a backbone of another network, not downloaded",
         f"{CLS} MODEL.BACKBONE.WEIGHTS torchvision://VGG16_Weights.IMAGENET1K_V1",
         "MODEL.BACKBONE.WEIGHTS torchvision://VGG16_Weights.IMAGENET1K_V1 does not fit the backbone VGG"),
    Case("checkpoint", "a backbone of no .safetensors", f"{CLS} MODEL.BACKBONE.WEIGHTS b.safetensors",
         "b.safetensors is not a readable .safetensors file", text("b.safetensors", "hello")),
    Case("checkpoint", "a hostile .pkl as backbone", f"{CLS} MODEL.BACKBONE.WEIGHTS b.pkl",
         "b.pkl: not a pickle of arrays and plain containers",
         lambda: Path("b.pkl").write_bytes(pickle.dumps({"model": Hostile()}))),
    Case("checkpoint", "a teacher that is cut short", STAGE2,
         "KD.TEACHER.WEIGHTS teacher/model_final.pth is not a readable",
         cut("teacher/model_final.pth")),
    Case("checkpoint", "a teacher of another network", STAGE2,
         "KD.TEACHER.WEIGHTS teacher/model_final.pth is not a checkpoint of this WeaklySupervisedDetector",
         replaced("teacher/config.yaml", "WIDTH: 0.1", "WIDTH: 0.2")),
    Case("checkpoint", "a teacher of another network, to cache", CACHING,
         "KD.TEACHER.WEIGHTS teacher/model_final.pth is not a checkpoint of this WeaklySupervisedDetector",
         replaced("teacher/config.yaml", "WIDTH: 0.1", "WIDTH: 0.2")),
    Case("checkpoint", "a teacher of other classes", STAGE2, "the teacher has 19 classes, the student 20",
         replaced("teacher/config.yaml", "NUM_CLASSES: 20\n", "NUM_CLASSES: 19\n")),
    Case("checkpoint", "a teacher that is missing", STAGE2, "KD.TEACHER.WEIGHTS", removed("teacher/model_final.pth")),
    Case("checkpoint", "a student as teacher", f"{STAGE2} KD.TEACHER.WEIGHTS run/model_final.pth", "is no teacher"),
    # Configurations
    Case("configuration", "missing", "train --config-file gone.yaml", "--config-file gone.yaml: no such file"),
    Case("configuration", "not given", "train", "--config-file is missing"),
    Case("configuration", "an unknown key", CLS, "did you mean SOLVER.BASE_LR?",
         text("cls.yaml", "SOLVER:\n  BASE_LRR: 1.0\n")),
    Case("configuration", "an ill-typed value", CLS, "SOLVER.BASE_LR fast is of type str; give one of type float",
         text("cls.yaml", "SOLVER:\n  BASE_LR: fast\n")),
    Case("configuration", "a key without a value", CLS, "SOLVER.BASE_LR has no value",
         text("cls.yaml", "SOLVER:\n  BASE_LR:\n")),
    Case("configuration", "no YAML", CLS, "is no YAML", text("cls.yaml", "SOLVER: [1\n")),
    Case("configuration", "of a later version", CLS, "VERSION 3 is later than 2", text("cls.yaml", "VERSION: 3\n")),
    Case("configuration", "a tab", CLS, "is no YAML", text("cls.yaml", "SOLVER:\n\tBASE_LR: 1.0\n")),
    Case("configuration", "a name in place of a list of names", f"{CLS} DATASETS.TRAIN tiny_fit", "DATASETS.TRAIN"),
    Case("configuration", "a list", CLS, "is no mapping of keys to values", text("cls.yaml", "- 1\n")),
    Case("configuration", "not UTF-8", CLS, "is no YAML in UTF-8", data("cls.yaml", b"A: \xff\xfe\n")),
    Case("configuration", "a folder", "train --config-file datasets", "--config-file datasets: is a folder"),
    Case("configuration", "an address", "train --config-file https://example.org/cls.yaml", "is an address"),
    Case("configuration", "a base that leads back", CLS, "its _BASE_ leads back",
         text("cls.yaml", "_BASE_: cls.yaml\n")),
    Case("configuration", "a base that is missing", CLS, "its _BASE_ gone.yaml is not there",
         text("cls.yaml", "_BASE_: gone.yaml\n")),
    Case("configuration", "code in YAML", CLS, "could run code", text("cls.yaml", HOSTILE_YAML)),
    Case("configuration", "code in the config.yaml of a run", PREDICT, "could run code",
         text("run/config.yaml", HOSTILE_YAML)),
    Case("configuration", "code in the config.yaml of a teacher", STAGE2, "could run code",
         text("teacher/config.yaml", HOSTILE_YAML)),
    *(
        Case("configuration", f"{key} {value}", f"{CLS} {key} {shlex.quote(value)}", says)
        for key, value, says in (
            ("SOLVER.BASE_LR", "-0.1", "SOLVER.BASE_LR -0.1 must be"),
            ("SOLVER.BASE_LR", "1e999", "SOLVER.BASE_LR inf must be"),
            ("SOLVER.MAX_ITER", "0", "SOLVER.MAX_ITER 0 must be positive"),
            ("SOLVER.IMS_PER_BATCH", "-4", "SOLVER.IMS_PER_BATCH -4 must be positive"),
            ("SOLVER.WEIGHT_DECAY", "-1.0", "SOLVER.WEIGHT_DECAY -1.0 must be"),
            ("SOLVER.MOMENTUM", "1.5", "SOLVER.MOMENTUM 1.5 must be"),
            ("SOLVER.WARMUP_ITERS", "-1", "SOLVER.WARMUP_ITERS -1 must be"),
            ("SOLVER.STEPS", "('a',)", "SOLVER.STEPS ('a',) must be"),
            ("SOLVER.CHECKPOINT_PERIOD", "0", "SOLVER.CHECKPOINT_PERIOD 0 must be"),
            ("SOLVER.LR_SCHEDULER_NAME", "Magic", "SOLVER.LR_SCHEDULER_NAME 'Magic' is none of"),
            ("SEED", "5000000000", "SEED 5000000000 must be at most 4294967295"),
            ("DATALOADER.NUM_WORKERS", "-1", "DATALOADER.NUM_WORKERS -1 must be"),
            ("INPUT.SIZES_TRAIN", "(0,)", "INPUT.SIZES_TRAIN"),
            ("INPUT.FORMAT", "L", "INPUT.FORMAT 'L' is none of RGB, BGR"),
            ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "MODEL.META_ARCHITECTURE 'GeneralizedRCNN' is none of"),
            ("MODEL.BACKBONE.NAME", "magic", "MODEL.BACKBONE.NAME 'magic' is none of"),
            ("MODEL.VGG.DEPTH", "12", "MODEL.VGG.DEPTH 12"),
            ("MODEL.VGG.OUT_FEATURES", "['conv9']", "MODEL.VGG.OUT_FEATURES ['conv9']"),
            ("MODEL.CLASSIFIER.IN_FEATURE", "conv9", "MODEL.CLASSIFIER.IN_FEATURE 'conv9'"),
            ("MODEL.DEVICE", "magic", "MODEL.DEVICE 'magic'"),
            ("MODEL.NUM_CLASSES", "7", "MODEL.NUM_CLASSES 7: data set tiny_fit has 20 classes"),
            ("MODEL.PIXEL_STD", "[1.0,0.0,1.0]", "MODEL.PIXEL_STD [1.0, 0.0, 1.0] must be"),
            ("DATASETS.TRAIN", "('gone_train',)", "data set 'gone_train'"),
            ("DATASETS.TRAIN", "(5,)", "DATASETS.TRAIN (5,) must be"),
            ("DATASETS.TRAIN", "()", "DATASETS.TRAIN is empty"),
            ("TEST.THRESHOLD", "7.0", "TEST.THRESHOLD"),
            ("SOLVER.BASE_LR", "", "SOLVER.BASE_LR"),
        )
    ),
    # Thresholds, calibration, scores
    Case("thresholds", "no JSON", "predict photo.jpg --model run", "thresholds.json: not what",
         cut("run/thresholds.json")),
    Case("thresholds", "out of 0 to 1", "predict photo.jpg --model run", "thresholds.json: not what",
         entry("run/thresholds.json", "thresholds", 0, value=7)),
    Case("thresholds", "of another checkpoint", "predict photo.jpg --model run", "was tuned for another checkpoint",
         entry("run/thresholds.json", "checkpoint_sha256", value="0")),
    Case("thresholds", "missing", f"{CLS} --eval-only MODEL.WEIGHTS run/model_final.pth TEST.THRESHOLDS gone.json",
         "gone.json: no such file"),
    Case("calibration", "no JSON", f"{STAGE2} KD.PREDICTION.CALIBRATION calibration.json", "is no calibration",
         cut("calibration.json")),
    Case("calibration", "an infinite slope", f"{STAGE2} KD.PREDICTION.CALIBRATION calibration.json", "is damaged",
         replaced("calibration.json", '"slope": 1.0', '"slope": Infinity')),
    Case("calibration", "missing", f"{STAGE2} KD.PREDICTION.CALIBRATION gone.json", "gone.json: no such file"),
    Case("scores", "cut short", "evaluate run", "image_scores.npz", cut("run/inference/tiny_val/image_scores.npz")),
    Case("scores", "a photo in their place", "evaluate photo.jpg", "photo.jpg: is no image_scores.npz"),
    Case("scores", "no run", "evaluate teacher", "teacher: neither a file of scores nor the folder of a run"),
    Case("manifest", "cut short", "dataset-manifest tiny_fit --check m.manifest", "m.manifest",
         text("m.manifest", '{"manifest": 1}\n')),
    # Exported files
    Case("exported", "an .onnx of text", "predict photo.jpg --model student.onnx", "not an ONNX file that can be run",
         text("student.onnx", "hello"), ("onnxruntime",)),
    Case("exported", "an .onnx of someone else", "predict photo.jpg --model student.onnx",
         "was not written by mlickd export", foreign_onnx, ("onnx", "onnxruntime")),
    Case("exported", "a .pt2 of text", "predict photo.jpg --model student.pt2", "not a readable .pt2 file",
         text("student.pt2", "hello")),
    Case("exported", "a .pt2 of someone else", "predict photo.jpg --model student.pt2", "was not written by",
         archive("student.pt2", version="1")),
    # Command lines
    Case("command line", "no command", "trian", "trian is no command of mlickd; did you mean train?"),
    Case("command line", "an unknown option", "train --magic", "unrecognized arguments"),
    Case("command line", "an option without its value", "predict photo.jpg --model", "argument --model: expected one"),
    Case("command line", "an option that is needed", "predict photo.jpg", "required: --model"),
    Case("command line", "no number", "predict photo.jpg --model run --topk many", "--topk: invalid int value: 'many'"),
    Case("command line", "options that exclude each other",
         "generate-proposals --dataset tiny_fit --images . --output p", "not allowed with argument"),
    Case("command line", "a key without its value", f"{CLS} SOLVER.BASE_LR", "one value is missing"),
    Case("command line", "an option behind the keys", f"{CLS} SOLVER.MAX_ITER 2 --resume",
         "--resume stands behind KEY VALUE pairs; put it in front of them"),
    Case("command line", "an unknown key", f"{CLS} SOLVER.BASE_LRR 1.0", "did you mean SOLVER.BASE_LR?"),
    Case("command line", "an unknown stage", "train --config-file kd.yaml --kd-stage third", "--kd-stage third"),
    Case("command line", "a stage of what has none", f"{WSD} --kd-stage feature", "has no stages"),
    Case("command line", "stage 2 before stage 1", STAGE2.partition(" KD.STAGES")[0], "stage 1 has left no"),
    Case("command line", "a photo that is missing", "predict gone.jpg --model run", "gone.jpg"),
    Case("command line", "a model that is missing", "predict photo.jpg --model gone", "gone: no such file or folder"),
    Case("command line", "a threshold out of 0 to 1", "predict photo.jpg --model run --threshold 50", "from 0 to 1"),
    Case("command line", "a report below a file", "predict photo.jpg --model run --json photo.jpg/a.json",
         "photo.jpg/a.json: cannot be written"),
    Case("command line", "a manifest below a file", "dataset-manifest tiny_fit --output photo.jpg/m",
         "photo.jpg/m: cannot"),
    Case("command line", "a file in place of the run", f"{CLS} OUTPUT_DIR photo.jpg", "photo.jpg"),
    Case("command line", "a run below a file", f"{CLS} OUTPUT_DIR photo.jpg/out", "photo.jpg/out"),
    Case("command line", "a gallery below a file",
         "visualize --dataset tiny_val --without run --output photo.jpg/gallery", "photo.jpg/gallery"),
    Case("command line", "an export below a file", "export --run run --output photo.jpg/a.onnx", "photo.jpg/a.onnx"),
    Case("command line", "an export of no known format", "export --run run --output a.h5", "a.h5"),
    Case("command line", "proposals below a file",
         "generate-proposals --dataset tiny_fit --method sliding --workers 0 --output photo.jpg/p",
         "photo.jpg/p"),
    Case("command line", "thresholds of an unknown data set", "tune-thresholds --run run --dataset gone_val",
         "data set 'gone_val'"),
    Case("command line", "a run that is none", "tune-thresholds --run datasets --dataset tiny_val",
         "datasets/config.yaml: no such file"),
    Case("command line", "no whole seeds", "compare --seeds 1,x", "--seeds 1,x: give whole numbers"),
    Case("command line", "a comparison without configurations", "compare --configs gone --dry-run", "gone"),
    Case("command line", "pairs that are none", "robustness --dataset tiny_val --without run --with run run --output o",
         "--with"),
    Case("command line", "a shard out of range", CACHED.replace("--check", "--shard 3/2"), "3/2"),
    Case("command line", "an unknown data set", "check-dataset gone_train --output o", "data set 'gone_train'"),
    Case("command line", "a batch that processes cannot share", f"{CLS} --num-gpus 3",
         "SOLVER.IMS_PER_BATCH 4 must be a positive multiple of the 3 processes"),
    Case("command line", "an image that is none",
         "visualize --dataset tiny_val --without run --output g --images gone.jpg", "gone.jpg"),
    Case("command line", "the same run twice", "evaluate run run", "the same run is given twice"),
    Case("command line", "no process", f"{CLS} --num-gpus 0", "--num-gpus 0 must be 1 or more"),
]  # fmt: skip
