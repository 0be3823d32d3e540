"""Any bytes in a file of this project are read, or end in an InputError of one line that names the file.

The tests change a few bytes of good files; the examples are the same in every run. A header that claims more bytes than
the file has is refused before memory is allocated.
"""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.damage import damaged_bytes, damaged_json
from helpers.limits import in_little_memory, needs_limit
from mlickd.config import default_config
from mlickd.config_files import merge_config_file
from mlickd.data import ProposalStore, write_store
from mlickd.data.proposals.file_formats import read_detectron2_pickle
from mlickd.data.sources.coco import read_coco
from mlickd.data.sources.folder import load_folder_dataset
from mlickd.decoding import image_size, read_image
from mlickd.errors import InputError
from mlickd.evaluation.score_files import read_scores, write_scores
from mlickd.runs import training_metrics
from mlickd.tensor_shards import Shard, write_shard
from mlickd.thresholds import ClassThresholds, read_thresholds, write_thresholds

RECORDS = [{"image_id": f"{number}.jpg", "height": 60, "width": 80, "labels": [number % 3]} for number in range(6)]
NAMES = ["cat", "dog", "piñata"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small good files."""
    folder = tmp_path_factory.mktemp("good")
    generator = np.random.default_rng(1)
    boxes = np.array([[0, 0, 40, 30], [10, 5, 80, 60], [3, 3, 9, 9]], dtype=np.float32)
    ids = [record["image_id"] for record in RECORDS]
    scores = generator.random((6, 3)).astype(np.float32)
    write_store(folder, list(zip(ids, [boxes] * 6, scores, strict=True)), "grid", parameters={}, image_digest="a")
    write_shard(folder / "shard", {"boxes": boxes, "ends": np.array([1, 3])}, {"ids": ids}, "make it again")
    write_scores(str(folder / "scores.npz"), ids, scores, (scores > 0.5).astype(np.int8), NAMES)
    content = {"ids": [1, 2], "boxes": [boxes, boxes[:1]], "objectness_logits": [scores[0], scores[1, :1]]}
    (folder / "proposals.pkl").write_bytes(pickle.dumps(content | {"bbox_mode": 0}))
    (folder / "config.yaml").write_text("SOLVER:\n  BASE_LR: 0.1\n  STEPS: [1, 2]\nDATASETS:\n  TRAIN: ('pets',)\n")
    pixels = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    for name in ("photo.jpg", "photo.png", "photo.webp"):
        Image.fromarray(pixels).save(folder / name)
    tuned = ClassThresholds(NAMES, [0.5, 0.4, 0.3], [1.0, 0.5, None], [3, 2, 0], 0.5, "pets", 6, "ab", "m.pth", "cd")
    write_thresholds(tuned, str(folder / "thresholds.json"))
    (folder / "metrics.json").write_text(json.dumps({"iteration": 19, "total_loss": 1.5, "time": 0.1}))
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "height": 60, "width": 80}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    }
    (folder / "instances.json").write_text(json.dumps(coco))
    return folder


def read_whole_store(path: Path) -> None:
    store = ProposalStore(path.parent)
    for image_id in store:
        boxes, scores = store[image_id]
        assert boxes.shape == (len(scores), 4)


def read_photo(path: Path) -> None:
    image_size(path)
    assert read_image(path).shape[2] == 3


READERS: dict[str, Callable[[Path], object]] = {
    "00000-of-00001.safetensors": read_whole_store,
    "shard": lambda path: Shard(path, "make it again").check_digest(),
    "scores.npz": lambda path: read_scores(str(path)),
    "proposals.pkl": lambda path: list(read_detectron2_pickle(path)),
    "config.yaml": lambda path: merge_config_file(default_config(), path, str(path)),
    **dict.fromkeys(("photo.jpg", "photo.png", "photo.webp"), read_photo),
    "thresholds.json": lambda path: read_thresholds(str(path)).check(str(path), NAMES),
    "metrics.json": lambda path: training_metrics(path.parent),
    "instances.json": read_coco,
}


def fuzz(test: Callable) -> Callable:
    """Run a test on damaged content; its fixtures serve all examples, each of which replaces the file."""
    return settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])(
        given(st.data())(test)
    )


def read_or_refuse(read: Callable[[], object], name: str) -> None:
    """Read damaged content; every exception other than an InputError of one line is a failure."""
    try:
        read()
    except InputError as error:
        assert "\n" not in str(error) and name in str(error), error


@pytest.mark.parametrize("name", READERS)
@fuzz
def test_damaged_files(name: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data) -> None:
    monkeypatch.setenv("MLICKD_MAX_PIXELS", "100000")  # a damaged header may claim up to this size, read at once
    content = (good / name).read_bytes()
    READERS[name](good / name)
    damage = damaged_json if name.endswith(".json") else damaged_bytes
    path = tmp_path / name
    path.write_bytes(data.draw(damage(content)))
    read_or_refuse(lambda: READERS[name](path), name)


@pytest.mark.parametrize("name", ["labels_train.csv", "classes.txt"])
@fuzz
def test_damaged_tables(name: str, tiny_scenes: Path, tmp_path: Path, data) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir(exist_ok=True)
    for other in ("images", "labels_train.csv", "classes.txt"):
        if not (folder / other).exists():
            (folder / other).symlink_to(tiny_scenes / "tiny" / other)
    (folder / name).unlink()
    (folder / name).write_bytes(data.draw(damaged_bytes((tiny_scenes / "tiny" / name).read_bytes())))
    read_or_refuse(lambda: load_folder_dataset(folder, "train"), str(folder))


def files_with_false_sizes() -> dict[str, bytes]:
    """Return files whose headers claim up to 16 terabytes, and one of 300 kilobytes that holds 300 megabytes."""
    array, shard, scores, bomb = (io.BytesIO() for _ in range(4))
    np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 4)})
    header = json.dumps({"boxes": {"dtype": "F32", "shape": [10**12, 4], "data_offsets": [0, 16 * 10**12]}}).encode()
    shard.write(struct.pack("<Q", len(header)) + header)
    with zipfile.ZipFile(scores, "w") as archive:
        archive.writestr("scores.npy", array.getvalue())
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scores.npy", array.getvalue() + bytes(300 * 2**20))
    pickled = b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b"abc."
    return {
        "shard": shard.getvalue(),
        "scores.npz": scores.getvalue(),
        "bomb": bomb.getvalue(),
        "proposals.pkl": pickled,
    }


@needs_limit
@pytest.mark.parametrize("name", ["shard", "scores.npz", "bomb", "proposals.pkl"])
def test_a_false_size_in_a_header_takes_no_memory(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(files_with_false_sizes()[name])
    assert name in in_little_memory(refuse, name, tmp_path / name)


def refuse(name: str, path: Path) -> str:
    with pytest.raises(InputError) as error:
        READERS["scores.npz" if name == "bomb" else name](path)
    return str(error.value)
