"""Whatever bytes a file of ours has: it is read as what it is, or it is an InputError on one line.

The bytes are those of good files, changed at a few places. Examples are the same in every run (see tests/conftest.py).
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.cached_scenes import CachedScenes
from helpers.damage import damaged_bytes, damaged_json
from mlickd.config import default_config
from mlickd.config_files import merge_config_file
from mlickd.data import ProposalStore, dataset_records, write_store
from mlickd.data.manifest import make_manifest, read_manifest, write_manifest
from mlickd.data.proposals.files import read_detectron2_pickle
from mlickd.data.proposals.journal import ProposalJournal
from mlickd.data.reading import read_image
from mlickd.data.records import image_size
from mlickd.data.sources.coco_format import read_coco
from mlickd.data.sources.folder import load_folder_dataset
from mlickd.data.verify import image_problem
from mlickd.distillation import KnowledgeRequest
from mlickd.distillation.cache import shard_folder
from mlickd.distillation.cache.header import describe_run
from mlickd.distillation.cache.reader import DatasetCache
from mlickd.distillation.calibration import Calibration, HeldOut
from mlickd.errors import InputError
from mlickd.evaluation.score_files import read_scores, write_scores
from mlickd.evaluation.thresholds import ClassThresholds, read_thresholds, write_thresholds
from mlickd.export.metadata import ExportMetadata
from mlickd.export.pt2_archive import check_pt2
from mlickd.runs import multilabel_results, training_metrics

RECORDS = [{"image_id": f"{number}.jpg", "height": 60, "width": 80, "labels": [number % 3]} for number in range(6)]
NAMES = ["cat", "dog", "piñata"]


def fuzz(test: Callable) -> Callable:
    """A fixture is made once for all examples, which replace the file."""
    return settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])(test)


def read_or_refuse(read: Callable[[Path], object], path: Path, content: bytes) -> None:
    """Every other exception is a failure of the test; so is a message of several lines, or of none."""
    path.write_bytes(content)
    try:
        read(path)
    except InputError as error:
        assert "\n" not in str(error) and path.name in str(error), error


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good files, small ones."""
    folder = tmp_path_factory.mktemp("good")
    generator = np.random.default_rng(1)
    boxes = np.array([[0, 0, 40, 30], [10, 5, 80, 60], [3, 3, 9, 9]], dtype=np.float32)
    items = [(record["image_id"], boxes, generator.random(3).astype(np.float32)) for record in RECORDS]
    write_store(folder / "store", items, method="grid", parameters={"a": 1}, image_digest="digest")
    with ProposalJournal(folder / "journal", {"method": "grid"}) as journal:
        for item in items:
            journal.append(*item)
    write_manifest(make_manifest("pets", RECORDS, NAMES), folder / "manifest")
    scores = generator.random((6, 3)).astype(np.float32)
    ids = [record["image_id"] for record in RECORDS]
    write_scores(str(folder / "scores.npz"), ids, scores, (scores > 0.5).astype(np.int8), NAMES)
    tuned = ClassThresholds(NAMES, [0.5, 0.4, 0.3], [1.0, 0.5, None], [3, 2, 0], 0.5, "pets", 6, "ab", "m.pth", "cd")
    write_thresholds(tuned, str(folder / "thresholds.json"))
    line = Calibration(tuple(NAMES), (1.0, 2.0, 1.5), (0.0, -1.0, 0.5), 1.0, (HeldOut("pets", "ab", "cd"),))
    line.save(folder / "calibration.json")
    metrics = [{"iteration": number, "total_loss": 1.5, "time": 0.1} for number in (19, 39)]
    (folder / "metrics.json").write_text("".join(f"{json.dumps(values)}\n" for values in metrics))
    report = {"metrics": {"mAP": 50.0, "CF1": 40.0}, "per_class": {"cat": {"AP": 50.0}, "dog": {"AP": 20.0}}}
    (folder / "multilabel_results.json").write_text(json.dumps(report))
    with (folder / "proposals.pkl").open("wb") as file:
        content = {"ids": [1, 2], "boxes": [boxes, boxes[:1]], "objectness_logits": [scores[0], scores[1, :1]]}
        pickle.dump(content | {"bbox_mode": 0}, file)
    (folder / "config.yaml").write_text("SOLVER:\n  BASE_LR: 0.1\n  STEPS: [1, 2]\nDATASETS:\n  TRAIN: ('pets',)\n")
    pixels = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    for suffix in ("jpg", "png", "gif", "bmp", "ppm", "tif", "webp"):
        Image.fromarray(pixels).save(folder / f"photo.{suffix}")
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "height": 60, "width": 80}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0}],
    }
    (folder / "instances.json").write_text(json.dumps(coco))
    return folder


def read_store(path: Path) -> None:
    store = ProposalStore.open(path)
    for image_id in store:
        boxes, scores = store[image_id]
        assert boxes.shape == (len(scores), 4)
    store.digest()
    store.check(RECORDS)


def read_journal(path: Path) -> None:
    with ProposalJournal(path, {"method": "grid"}) as journal:
        assert len(list(journal)) >= len(journal.done)


def read_pickle(path: Path) -> None:
    for _, boxes, scores in read_detectron2_pickle(path):
        assert boxes.shape == (len(scores), 4)


def read_config(path: Path) -> None:
    merge_config_file(default_config(), path, str(path))


def read_picture(path: Path) -> None:
    problem = image_problem({"file_name": path})
    assert problem is None or "\n" not in problem
    image_size(path)
    assert read_image(path).shape[2] == 3


BINARY = {
    "store": read_store,
    "journal": read_journal,
    "scores.npz": lambda path: read_scores(str(path)),
    "manifest": read_manifest,
    "proposals.pkl": read_pickle,
    "config.yaml": read_config,
    **{f"photo.{suffix}": read_picture for suffix in ("jpg", "png", "gif", "bmp", "ppm", "tif", "webp")},
}
JSON = {
    "thresholds.json": lambda path: read_thresholds(str(path)).check(str(path), NAMES),
    "calibration.json": lambda path: Calibration.load(str(path)),
    "multilabel_results.json": multilabel_results,
    "instances.json": read_coco,
}


@pytest.mark.parametrize("name", BINARY)
@fuzz
@given(data=st.data())
def test_damaged_bytes(name: str, data: st.DataObject, good: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLICKD_MAX_PIXELS", "100000")  # a header may say anything up to that, which takes no time
    BINARY[name](good / name)
    content = data.draw(damaged_bytes((good / name).read_bytes()))
    read_or_refuse(BINARY[name], tmp_path / name, content)


@pytest.mark.parametrize("name", JSON)
@fuzz
@given(data=st.data())
def test_damaged_json(name: str, data: st.DataObject, good: Path, tmp_path: Path) -> None:
    JSON[name](good / name)
    content = data.draw(damaged_json((good / name).read_bytes()))
    read_or_refuse(JSON[name], tmp_path / name, content)


@fuzz
@given(data=st.data())
def test_damaged_lines_of_json(data: st.DataObject, good: Path, tmp_path: Path) -> None:
    """A manifest, and the metrics of a run."""
    lines = (good / "manifest").read_bytes().splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = data.draw(damaged_json(lines[number])).replace(b"\n", b" ")
    read_or_refuse(read_manifest, tmp_path / "manifest", b"\n".join(lines) + b"\n")
    first, second = (good / "metrics.json").read_bytes().splitlines()
    changed = data.draw(damaged_json(first))
    read_or_refuse(lambda path: training_metrics(path.parent), tmp_path / "metrics.json", changed + b"\n" + second)


@fuzz
@given(data=st.data())
def test_the_header_of_a_store(data: st.DataObject, good: Path, tmp_path: Path) -> None:
    """Its numbers are wrong, its length is right."""
    content = (good / "store").read_bytes()
    length = int.from_bytes(content[16:24], "little")
    header = data.draw(damaged_json(content[24 : 24 + length].strip()))
    header = header.ljust(-(-len(header) // 8) * 8)
    changed = content[:16] + len(header).to_bytes(8, "little") + header + content[24 + length :]
    read_or_refuse(read_store, tmp_path / "store", changed)


@pytest.mark.parametrize("name", ["labels_train.csv", "classes.txt"])
@fuzz
@given(data=st.data())
@example(data=None)
def test_damaged_labels(name: str, data: st.DataObject | None, tiny_scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    if not folder.exists():
        folder.mkdir()
        (folder / "images").symlink_to(tiny_scenes / "tiny" / "images")
        for table in ("labels_train.csv", "classes.txt"):
            shutil.copy(tiny_scenes / "tiny" / table, folder)
    original = (tiny_scenes / "tiny" / name).read_bytes()
    content = original if data is None else data.draw(damaged_bytes(original) | st.binary(max_size=40))
    (folder / name).write_bytes(content)
    try:
        load_folder_dataset(folder, "train")
    except InputError as error:
        assert "\n" not in str(error) and str(folder) in str(error)


@pytest.fixture(scope="module")
def cached(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The folder of a cache, and what a run asks of it."""
    scenes = CachedScenes.create(tmp_path_factory.mktemp("cached"))
    cache = scenes.make("good")
    cfg = scenes.config("feature", cache)
    return cache, describe_run(cfg, "tiny_train", dataset_records("tiny_train"), KnowledgeRequest.of_stage(cfg))


FILES = ["header.json", "ids.json", "region_offsets.npy", "done.npy", "selected.npy", "selected_counts.npy"]


@pytest.mark.parametrize("name", FILES)
@fuzz
@given(data=st.data())
def test_a_damaged_cache(name: str, data: st.DataObject, cached: tuple[Path, dict], tmp_path: Path) -> None:
    cache, expected = cached
    folder = shard_folder(cache, "tiny_train", (1, 1))
    copy = shard_folder(tmp_path, "tiny_train", (1, 1))
    if not copy.exists():
        copy.mkdir(parents=True)
        for path in folder.iterdir():
            (copy / path.name).symlink_to(path)
        (copy / name).unlink()
    original = (folder / name).read_bytes()
    damaged = damaged_json if name.endswith(".json") else damaged_bytes
    (copy / name).write_bytes(data.draw(damaged(original)))
    try:
        found = DatasetCache(tmp_path, "tiny_train", expected)
        for image_id in found:
            for mirror in (False, True):
                boxes, _, known = found.read(image_id, mirror=mirror)
                assert len(known.class_logits) == len(boxes)
    except InputError as error:
        assert "\n" not in str(error) and str(tmp_path) in str(error)


METADATA = ExportMetadata(
    class_names=tuple(NAMES), thresholds=(0.5, 0.4, 0.3), thresholds_from="0.5", input_size=32, preprocessing=True,
    pixel_mean=(1.0, 2.0, 3.0), pixel_std=(1.0, 1.0, 1.0), channel_order="RGB", provenance={"data": "pets"},
)  # fmt: skip


@fuzz
@given(data=st.data())
def test_metadata_of_an_exported_file(data: st.DataObject) -> None:
    properties = METADATA.properties()
    assert ExportMetadata.from_properties(properties, "a.onnx") == METADATA
    name = data.draw(st.sampled_from(sorted(properties)))
    try:
        content = damaged_json(properties[name].encode())
    except ValueError:
        content = damaged_bytes(properties[name].encode())
    properties[name] = data.draw(content).decode("utf-8", "replace")
    try:
        ExportMetadata.from_properties(properties, "a.onnx")
    except InputError as error:
        assert "\n" not in str(error) and "a.onnx" in str(error)


def pt2(graph: bytes, weights: bytes) -> bytes:
    """An archive as PyTorch writes it, with these parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("student/models/model.json", graph)
        archive.writestr("student/data/weights/model_weights_config.json", weights)
        archive.writestr("student/data/constants/model_constants_config.json", b'{"config": {}}')
        archive.writestr("student/extra/mlickd.json", json.dumps(METADATA.properties()))
    return file.getvalue()


GRAPH = {"graph_module": {"nodes": [{"target": "torch.ops.aten.relu.default", "inputs": []}], "expr_str": "s0"}}
GRAPH |= {"guards_code": [], "range_constraints": {"s0": {}}}
WEIGHTS = {"config": {"linear.weight": {"use_pickle": False, "path_name": "weight_0"}}}


@fuzz
@given(data=st.data())
def test_an_exported_archive(data: st.DataObject, tmp_path: Path) -> None:
    graph, weights = json.dumps(GRAPH).encode(), json.dumps(WEIGHTS).encode()
    check_pt2(pt2(graph, weights), "good.pt2")
    content = data.draw(st.builds(pt2, damaged_json(graph), damaged_json(weights)) | damaged_bytes(pt2(graph, weights)))
    read_or_refuse(lambda path: check_pt2(path.read_bytes(), str(path)), tmp_path / "student.pt2", content)
