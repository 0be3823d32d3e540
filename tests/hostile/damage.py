"""Ways to damage a file of the folder that `helpers.ground` writes; paths are relative to it."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mlickd.data import write_store

FIT, VAL = "datasets/tiny/labels_fit.csv", "datasets/tiny/labels_val.csv"
PHOTO = "datasets/tiny/images/train_00000.jpg"
STORE = "datasets/proposals/tiny_fit_edge_boxes.proposals"
SHARD = "knowledge/tiny_fit/shard-1-of-1"
BOXES, VOC = "datasets/boxed/instances_train.json", "datasets/VOC2007"

# Done in that folder.
Damage = Callable[[], None]


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
