"""Datasets and parts of datasets are found by name, with their images, classes and metadata."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlickd.config import default_config
from mlickd.data import catalog, open_proposals, proposals_path, scenes, write_store
from mlickd.data.checking.split_checks import check_proposals
from mlickd.data.parts import DatasetPart, parse_part, whole_name
from mlickd.data.proposals.store import image_list_digest
from mlickd.errors import InputError


def make(root: Path, folder: str, split: str, classes: str = "cat,dog", label: str = "cat") -> str:
    """Write a folder dataset of one image, and return the path of the image."""
    place = root / folder
    (place / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(place / "images" / "a.jpg")
    (place / "classes.txt").write_text(classes.replace(",", "\n"))
    (place / f"labels_{split}.csv").write_text(f"file_name,labels\na.jpg,{label}\n")
    return str(place / "images" / "a.jpg")


@pytest.fixture
def root(tmp_path, monkeypatch, catalogs):
    """An empty root of datasets."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("folder", "split"), [("pets", "train"), ("my_pets", "train"), ("pets", "hold_out")])
def test_a_folder_is_a_dataset_without_registration(root, folder, split):
    make(root, folder, split)
    name = f"{folder}_{split}"
    assert name in catalog.available_datasets() and catalog.class_names(name) == ["cat", "dog"]
    assert [record["labels"] for record in DatasetCatalog.get(name)] == [[0]]
    assert MetadataCatalog.get(name).thing_classes == ["cat", "dog"]
    catalog.dataset_records(name)[0]["labels"] = "spoilt"
    (root / folder / f"labels_{split}.csv").unlink()
    assert catalog.dataset_records(name)[0]["labels"] == [0], "files are read once, and each call returns new dicts"


def test_another_root_is_another_dataset(root, monkeypatch, tmp_path_factory):
    make(root, "pets", "train")
    other = tmp_path_factory.mktemp("other")
    make(other, "pets", "train", classes="cow,pig,hen", label="hen")
    for place, classes, labels in ((root, 2, [0]), (other, 3, [2]), (root, 2, [0])):
        monkeypatch.setenv("DETECTRON2_DATASETS", str(place))
        record = catalog.dataset_records("pets_train")[0]
        assert record["file_name"] == str(place / "pets/images/a.jpg") and record["labels"] == labels
        assert len(catalog.class_names("pets_train")) == classes
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path_factory.mktemp("empty")))
    with pytest.raises(InputError, match="'pets_train'"):
        catalog.dataset_records("pets_train")
    assert "pets_train" not in catalog.available_datasets()
    monkeypatch.delenv("DETECTRON2_DATASETS")
    assert catalog.dataset_root() == Path("datasets").absolute()


def test_the_message_about_an_unknown_name_lists_names_and_suggests_a_similar_one(root):
    make(root, "my_pets", "train")
    for name in ("pets", "", "../x_train", "my_pets_val"):
        with pytest.raises(InputError, match=f"'{name}'.*my_pets_train, scenes_test, scenes_train"):
            catalog.ensure_registered(name)
    (root / "coco" / "annotations").mkdir(parents=True)
    for name, similar in (("my_pest_train", "my_pets_train"), ("coco_2014_trian_multilabel", "coco_2014_train_multi")):
        with pytest.raises(InputError, match=f"'{name}'.*'{similar}"):
            catalog.ensure_registered(name)
    with pytest.raises(InputError, match="instances_train2014.json"):
        catalog.ensure_registered("coco_2014_train_multilabel")


def test_a_dataset_in_the_catalog_of_detectron2_is_completed_and_not_changed(root):
    image = make(root, "pets", "train")
    box = {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "iscrowd": 0, "segmentation": []}
    boxes = [box, {**box, "difficult": 1}]
    mine = [{"file_name": image, "image_id": 5, "height": np.int64(9), "width": 9.0, "annotations": boxes}]
    mine.append({"file_name": image, "image_id": 6, "height": 9, "labels": np.array([1, 0, 1])})
    DatasetCatalog.register("mine", lambda: mine)
    MetadataCatalog.get("mine").thing_classes = ["a", "b"]
    for _ in range(2):
        record, other = catalog.dataset_records("mine")
        assert record["image_id"] == 5 and record["labels"] == [1] and type(record["height"]) is int
        assert other["labels"] == [0, 1] and "height" not in other
        assert record["annotations"][0]["bbox"] == [1, 2, 4, 6]
        assert [annotation["difficult"] for annotation in record["annotations"]] == [0, 1]
    assert "labels" not in mine[0] and mine[0]["annotations"][0]["bbox_mode"] == BoxMode.XYWH_ABS
    assert "mine" in catalog.available_datasets()


@pytest.mark.parametrize(
    ("change", "classes", "message"),
    [
        ({}, ["a"], "labels"),
        ({"labels": [0]}, None, "thing_classes"),
        ({"labels": [1]}, ["a"], "labels"),
        ({"labels": [0.9]}, ["a"], "float"),
        ({"labels": [0], "file_name": "absent.jpg"}, ["a"], "absent.jpg"),
        ({"annotations": [{"category_id": 0, "bbox": [1, 2, 3, float("inf")], "bbox_mode": 0}]}, ["a"], "bbox"),
        (None, ["a"], "'mine_train'"),
    ],
)
def test_a_bad_registration_is_refused(root, change, classes, message):
    records = [] if change is None else [{"file_name": __file__, "image_id": 5, **change}]
    DatasetCatalog.register("mine_train", lambda: records)
    if classes:
        MetadataCatalog.get("mine_train").thing_classes = classes
    with pytest.raises(InputError, match=message):
        catalog.ensure_registered("mine_train")


def test_a_folder_without_permissions_is_left_out(root, monkeypatch):
    make(root, "pets", "train")
    (root / "lost+found").mkdir()
    stat = Path.stat

    def deny(path: Path, **options: object) -> os.stat_result:
        if "lost+found/" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", deny)
    assert catalog.class_names("pets_train") == ["cat", "dog"] and "pets_train" in catalog.available_datasets()


def test_missing_datasets_of_detectron2_are_not_available_and_scenes_are_drawn(root, monkeypatch):
    with pytest.raises(InputError, match="'coco_2014_train'"):
        catalog.ensure_registered("coco_2014_train")
    assert "coco_2014_train" not in catalog.available_datasets()
    monkeypatch.setattr(scenes.dataset, "COUNTS", {"train": 3, "test": 2})
    assert len(catalog.dataset_records("scenes_test")) == 2
    assert json.loads((root / "scenes" / "scenes.json").read_text())["images"] == {"train": 3, "test": 2}


def test_a_name_gives_the_images_of_a_part() -> None:
    ids = [f"{index}.jpg" for index in range(10)]
    ranked = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert {ids[i] for i in DatasetPart("x", 2, 3).indices(ids)} == {ranked[1], ranked[4], ranked[7]}
    assert parse_part("pets_train") is None and parse_part("pets@home_train") is None
    assert parse_part("pets_train@not1of4@2of3") == DatasetPart("pets_train@not1of4", 2, 3)
    for name in ("pets_train@2of3", "pets_train@not2of3"):
        assert str(parse_part(name)) == name
    assert whole_name("pets_train@not1of4@2of3") == whole_name("pets_train") == "pets_train"


IMAGE_IDS = st.lists(st.one_of(st.text(), st.integers()), min_size=2, max_size=60, unique_by=str)


@given(IMAGE_IDS, st.integers(2, 9), st.randoms())
def test_parts_are_equal_disjoint_and_complete_in_any_order(ids: list, count: int, random) -> None:
    count = min(count, len(ids))
    parts = [[ids[i] for i in DatasetPart("x", number, count).indices(ids)] for number in range(1, count + 1)]
    assert sorted(map(str, sum(parts, []))) == sorted(map(str, ids))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    shuffled = random.sample(ids, len(ids))
    for number, part in enumerate(parts, start=1):
        assert part == [image_id for image_id in ids if image_id in part], "in the order of the dataset"
        others = [ids[i] for i in DatasetPart("x", number, count, others=True).indices(ids)]
        assert others == [image_id for image_id in ids if image_id not in part]
        assert {shuffled[i] for i in DatasetPart("x", number, count).indices(shuffled)} == set(part)


def test_a_part_has_the_records_classes_and_metadata_of_the_whole(tiny_scenes: Path) -> None:
    whole = catalog.dataset_records("tiny_train")
    part, others = (catalog.dataset_records(f"tiny_train@{name}") for name in ("3of3", "not3of3"))
    assert len(part) == 8 and others == [record for record in whole if record not in part]
    unboxed = [{key: record[key] for key in record if key != "annotations"} for record in part]
    assert catalog.dataset_records("tiny_train@3of3", boxes=False) == unboxed
    assert DatasetCatalog.get("tiny_train@3of3") == part == [record for record in whole if record in part]
    metadata, of_whole = MetadataCatalog.get("tiny_train@not3of3"), MetadataCatalog.get("tiny_train")
    assert metadata.as_dict() == {**of_whole.as_dict(), "name": "tiny_train@not3of3"}
    assert len(catalog.dataset_records("tiny_train@not3of3@1of4")) == 4
    assert not any("@" in name for name in catalog.available_datasets())


def test_a_part_changes_with_the_whole(tmp_path: Path, tiny_scenes: Path, monkeypatch, catalogs) -> None:
    def register(ids: range) -> None:
        if "mine" in DatasetCatalog:
            DatasetCatalog.remove("mine")
        records = [{"file_name": __file__, "image_id": i, "labels": [0]} for i in ids]
        DatasetCatalog.register("mine", lambda: records)

    register(range(4))
    MetadataCatalog.get("mine").thing_classes = ["a"]
    parts = [catalog.dataset_records(f"mine@{number}of2") for number in (1, 2)]
    assert sorted(record["image_id"] for part in parts for record in part) == [0, 1, 2, 3]
    register(range(10, 13))
    parts = [catalog.dataset_records(f"mine@{part}") for part in ("1of2", "not1of2")]
    assert sorted(record["image_id"] for part in parts for record in part) == [10, 11, 12]
    catalog.ensure_registered("tiny_train@1of2")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(InputError, match="'tiny_train'"):
        catalog.ensure_registered("tiny_train@1of2")


@pytest.mark.parametrize("part", ["4of3", "0of3", "1of1", "not25of25", "1/3"])
def test_a_wrong_name_is_refused(tiny_scenes: Path, part: str) -> None:
    with pytest.raises(InputError, match=f"'tiny_train@{part}'"):
        catalog.dataset_records(f"tiny_train@{part}")


def test_a_part_has_the_proposals_of_the_whole(tiny_scenes: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "tiny").symlink_to(tiny_scenes / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    path, cfg = proposals_path("tiny_train", "edge_boxes"), default_config()
    with pytest.raises(InputError, match=f"{path}: .* --dataset tiny_train "):
        open_proposals(cfg, "tiny_train@1of3")
    whole, part = (catalog.dataset_records(name) for name in ("tiny_train", "tiny_train@1of3"))
    for records in (whole, part):
        box = np.array([[0, 0, 50, 50]], dtype=np.float32), np.ones(1, dtype=np.float32)
        items = [(record["image_id"], *box) for record in records]
        write_store(path, items, "edge_boxes", {}, image_list_digest(records))
        open_proposals(cfg, "tiny_train@1of3").check(part)
        assert len(list(check_proposals("tiny_train@1of3", part))) == (records is part)
