from __future__ import annotations

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from mlickd.data import catalog, scenes
from mlickd.errors import InputError


def make(root: Path, folder: str, split: str, classes: str = "cat,dog", rows: str = "a.jpg,cat") -> str:
    place = root / folder
    (place / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(place / "images" / "a.jpg")
    (place / "classes.txt").write_text(classes.replace(",", "\n"))
    (place / f"labels_{split}.csv").write_text(f"file_name,labels\n{rows}\n")
    return str(place / "images" / "a.jpg")


@pytest.fixture
def root(tmp_path, monkeypatch, catalogs):
    """An empty root."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("folder", "split"), [("pets", "train"), ("my_pets", "train"), ("pets", "hold_out")])
def test_a_folder_needs_no_code(root, folder, split):
    make(root, folder, split)
    name = f"{folder}_{split}"
    assert name in catalog.available_datasets() and catalog.class_names(name) == ["cat", "dog"]
    assert [record["labels"] for record in DatasetCatalog.get(name)] == [[0]]
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == ["cat", "dog"] and metadata.box_classes == []
    assert metadata.image_root == str(root / folder / "images") and metadata.evaluator_type == "multilabel"
    catalog.dataset_records(name)[0]["labels"] = "spoilt"
    (root / folder / f"labels_{split}.csv").unlink()
    assert catalog.dataset_records(name)[0]["labels"] == [0], "read once, and a new dict at each call"


def test_another_root_is_another_dataset(root, monkeypatch, tmp_path_factory):
    make(root, "pets", "train")
    other = tmp_path_factory.mktemp("other")
    make(other, "pets", "train", classes="cow,pig,hen", rows="a.jpg,hen")
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


@pytest.mark.parametrize("name", ["pets", "", "../x_train", "my_pets_val", "coco_2014_trian"])
def test_unknown_names_list_the_known_ones(root, name):
    make(root, "my_pets", "train")
    with pytest.raises(InputError) as caught:
        catalog.ensure_registered(name)
    text = str(caught.value)
    assert repr(name) in text and "\n" not in text
    assert "my_pets_train, scenes_test, scenes_train" in text and "labels_<split>.csv" in text


def test_a_near_name_is_suggested(root):
    make(root, "pets", "train")
    (root / "coco" / "annotations").mkdir(parents=True)
    for wrong, right in (("pest_train", "pets_train"), ("coco_2014_trian_multilabel", "coco_2014_train_multilabel")):
        with pytest.raises(InputError, match=f"'{wrong}'.*'{right}'"):
            catalog.ensure_registered(wrong)
    with pytest.raises(InputError, match="instances_train2014.json"):
        catalog.ensure_registered("coco_2014_train_multilabel")


def test_names_in_the_catalog_are_used_as_they_are(root):
    image = make(root, "pets", "train")
    box = {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "iscrowd": 0, "segmentation": []}
    boxes = [box, {**box, "difficult": 1}]
    mine = [{"file_name": image, "image_id": 5, "height": 9, "width": 9, "annotations": boxes}]
    DatasetCatalog.register("mine", lambda: mine)
    MetadataCatalog.get("mine").set(thing_classes=["a", "b"], evaluator_type="coco")
    for _ in range(2):
        record = catalog.dataset_records("mine")[0]
        assert record["image_id"] == 5 and record["labels"] == [1]
        assert record["annotations"][0]["bbox"] == [1, 2, 4, 6]
        assert [annotation["difficult"] for annotation in record["annotations"]] == [0, 1]
    metadata = MetadataCatalog.get("mine")
    assert metadata.evaluator_type == "coco" and metadata.box_classes == [1]
    assert "labels" not in mine[0] and mine[0]["annotations"][0]["bbox_mode"] == BoxMode.XYWH_ABS
    assert "mine" in catalog.available_datasets()


@pytest.mark.parametrize(
    ("change", "classes", "message"),
    [
        ({}, ["a"], "labels"),
        ({"labels": [0]}, None, "thing_classes"),
        ({"labels": [1]}, ["a"], "labels"),
        ({"labels": [0], "file_name": "absent.jpg"}, ["a"], "absent.jpg"),
        ({"annotations": [{"category_id": 0, "bbox": [1, 2, 3], "bbox_mode": 0}]}, ["a"], "bbox"),
        ({"annotations": [{"category_id": 0, "bbox": [1, 2, 3, float("inf")], "bbox_mode": 0}]}, ["a"], "bbox"),
        (None, ["a"], "'mine_train'"),
    ],
)
def test_a_bad_registration_is_an_input_error(root, change, classes, message):
    records = [] if change is None else [{"file_name": __file__, "image_id": 5, **change}]
    DatasetCatalog.register("mine_train", lambda: records)
    if classes:
        MetadataCatalog.get("mine_train").thing_classes = classes
    with pytest.raises(InputError, match=message):
        catalog.ensure_registered("mine_train")


def test_built_in_datasets_and_scenes(root, monkeypatch):
    with pytest.raises(InputError, match="'coco_2014_train'"):
        catalog.ensure_registered("coco_2014_train")
    assert "coco_2014_train" not in catalog.available_datasets()
    monkeypatch.setattr(scenes.dataset, "COUNTS", {"train": 3, "test": 2})
    assert len(catalog.dataset_records("scenes_test")) == 2
    assert json.loads((root / "scenes" / "scenes.json").read_text())["images"] == {"train": 3, "test": 2}
