"""PASCAL VOC and NUS-WIDE are read from their official files."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.data import MetadataCatalog
from PIL import Image

from mlickd.data import catalog
from mlickd.data.sources.nus_wide import load_nus_wide, nus_wide_sources
from mlickd.data.sources.voc import VOC_CLASSES, load_voc_multilabel, voc_sources
from mlickd.errors import InputError

CAT, DOG = (VOC_CLASSES.index(name) for name in ("cat", "dog"))


def _write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def _object(name: str, box: tuple[object, ...], difficult: str = "<difficult>0</difficult>") -> str:
    x0, y0, x1, y1 = box
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    corners = f"<xmax>{x1}</xmax><xmin>{x0}</xmin><ymax>{y1}</ymax><ymin>{y0}</ymin>"
    return f"<object><name>{name}</name><bndbox>{corners}</bndbox>{difficult}{part}</object>"


def _annotation(*objects: str) -> str:
    size = "<size><width>40</width><height>30</height></size>"
    return f"<annotation><filename>x</filename>{size}{''.join(objects)}</annotation>"


HARD = "<difficult>1</difficult>"
ANNOTATIONS = {
    # A class with only a difficult object (dog), and one with a difficult and a clear object (cat).
    "000001": _annotation(
        _object("dog", (1, 1, 40, 30), HARD), _object("cat", (5, 6, 7, 8)), _object("cat", (1, 1, 9, 9), HARD)
    ),
    "000012": _annotation(_object("person", (4.5, 2, 40, 30), "")),
    "000003": _annotation(),
}


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """VOC2007 with three images in trainval."""
    folder = tmp_path / "VOC2007"
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    for image_id, text in ANNOTATIONS.items():
        Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / f"{image_id}.jpg")
        (folder / "Annotations" / f"{image_id}.xml").write_text(text)
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("".join(f"{key}\n" for key in ANNOTATIONS))
    return folder


def test_records_of_voc_have_labels_sizes_and_boxes(devkit):
    dataset = load_voc_multilabel(devkit, "trainval")
    assert dataset.class_names == list(VOC_CLASSES) == sorted(VOC_CLASSES) and len(VOC_CLASSES) == 20
    assert [record["image_id"] for record in dataset.records] == list(ANNOTATIONS)
    first, second, third = dataset.records
    assert first["file_name"] == str(devkit / "JPEGImages" / "000001.jpg")
    assert (first["height"], first["width"]) == (30, 40)
    assert [box["difficult"] for box in first["annotations"] + second["annotations"]] == [1, 0, 1, 0]
    # Pixels are counted from 1.
    assert [box["bbox"] for box in first["annotations"][:2]] == [[0, 0, 40, 30], [4, 5, 7, 8]]
    assert second["annotations"][0]["bbox"] == [3.5, 1, 40, 30]
    assert third["labels"] == third["annotations"] == []


def test_names_of_voc_give_the_protocol_for_difficult_objects(devkit, monkeypatch, catalogs):
    names = voc_sources(devkit.parent)
    assert len(names) == (4 + 3) * 3 and "voc_2012_test_multilabel" not in names
    here = [name for name, source in names.items() if source.exists()]
    assert here == [
        f"voc_2007_trainval_multilabel{ending}" for ending in ("", "_difficult_positive", "_difficult_negative")
    ]
    monkeypatch.setenv("DETECTRON2_DATASETS", str(devkit.parent))
    assert set(here) <= set(catalog.available_datasets())
    records = [catalog.dataset_records(name)[0] for name in here]
    metadata = MetadataCatalog.get(here[0])
    assert metadata.year == 2007
    assert [record["labels"] for record in records] == [[CAT], [CAT, DOG], [CAT]]
    # One object that is not difficult makes its class a label.
    assert records[0]["ignored_labels"] == [DOG] and "ignored_labels" not in records[1] | records[2]


def test_boxes_that_leave_the_image_are_clipped_with_a_warning(devkit, caplog):
    _xml(_annotation(_object("cat", (0, 1, 45, 9)), _object("cat", (41, 1, 50, 9))))(devkit)
    with caplog.at_level(logging.WARNING):
        record = load_voc_multilabel(devkit, "trainval").records[0]
    assert [box["bbox"] for box in record["annotations"]] == [[0, 0, 40, 9]]
    assert "000001.xml" in caplog.text and len(caplog.records) == 1


def _xml(text: str | bytes) -> Callable[[Path], object]:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda d: (d / "Annotations" / "000001.xml").write_bytes(data)


BAD_VOC = {
    "image name": (_write("ImageSets/Main/trainval.txt", "../a\n"), "trainval.txt: line 1: file name '../a'"),
    "image": (lambda d: (d / "JPEGImages/000012.jpg").unlink(), "JPEGImages/000012.jpg: "),
    "xml": (_xml(ANNOTATIONS["000001"][:99] + "\n"), "000001.xml: "),
    "encoding": (_xml(_annotation().encode() + b"\xe9"), "000001.xml: "),
    "size": (_xml("<annotation/>"), "000001.xml: "),
    "class": (_xml(_annotation(_object("zebra", (1, 1, 2, 2)))), "000001.xml: "),
    "box": (_xml(_annotation(_object("cat", (9, 1, 2, 2)))), "000001.xml: "),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_VOC.values(), ids=BAD_VOC)
def test_bad_input_of_voc_is_named(devkit, spoil, message):
    spoil(devkit)
    with pytest.raises(InputError, match=f"^{devkit}/.*{message}"):
        load_voc_multilabel(devkit, "trainval")


CONCEPTS = ["airport", "animal", "bear"]
# File name in the list, and whether the image shows each concept.
PARTS = {
    "Train": {"actor\\0001_21.jpg": (0, 1, 1), "actor\\0002_22.jpg": (0, 0, 0), "zebra\\0001_9.jpg": (1, 0, 0)},
    "Test": {"actor\\0003_23.jpg": (0, 0, 0), "bear cub\\0001_8.jpg": (0, 0, 1)},
}


@pytest.fixture
def nus_wide(tmp_path: Path) -> Path:
    folder = tmp_path / "nus_wide"
    for part in ("ConceptsList", "ImageList", "Groundtruth/TrainTestLabels", "lists"):
        (folder / part).mkdir(parents=True)
    (folder / "ConceptsList" / "Concepts81.txt").write_text("".join(f"{name}\n" for name in CONCEPTS))
    for part, images in PARTS.items():
        (folder / "ImageList" / f"{part}Imagelist.txt").write_text("".join(f"{name}\n" for name in images))
        for index, concept in enumerate(CONCEPTS):
            column = "".join(f"{labels[index]}\n" for labels in images.values())
            (folder / "Groundtruth" / "TrainTestLabels" / f"Labels_{concept}_{part}.txt").write_text(column)
        for name in images:
            path = folder / "Flickr" / name.replace("\\", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6)).save(path)
    return folder


def labels_by_id(folder: Path, split: str, **options: bool) -> dict[str, list[int]]:
    return {record["image_id"]: record["labels"] for record in load_nus_wide(folder, split, **options).records}


def test_records_of_nus_wide_have_labels_and_ids(nus_wide):
    assert labels_by_id(nus_wide, "train") == {
        "actor/0001_21.jpg": [1, 2],
        "actor/0002_22.jpg": [],
        "zebra/0001_9.jpg": [0],
    }
    assert labels_by_id(nus_wide, "test", keep_negatives=False) == {"bear cub/0001_8.jpg": [2]}
    dataset = load_nus_wide(nus_wide, "train")
    assert dataset.class_names == CONCEPTS
    # The official files do not give sizes, and images are not opened.
    file_name = str(nus_wide / "Flickr" / "actor" / "0001_21.jpg")
    assert dataset.records[0] == {"file_name": file_name, "image_id": "actor/0001_21.jpg", "labels": [1, 2]}


def test_another_list_takes_its_labels_from_both_parts(nus_wide):
    (nus_wide / "lists" / "mine.txt").write_bytes("\ufeffbear cub/0001_8.jpg\r\n\r\nactor\\0002_22.jpg".encode())
    assert list(labels_by_id(nus_wide, "mine").items()) == [("bear cub/0001_8.jpg", [2]), ("actor/0002_22.jpg", [])]
    assert labels_by_id(nus_wide, "mine", keep_negatives=False) == {"bear cub/0001_8.jpg": [2]}
    (nus_wide / "lists" / "mine.txt").write_text("actor/0001_21.jpg\nactor/1_1.jpg\n")
    with pytest.raises(InputError, match=r"mine\.txt: 'actor/1_1.jpg'"):
        load_nus_wide(nus_wide, "mine")


def test_missing_images_are_counted_in_one_warning(nus_wide, caplog):
    (nus_wide / "Flickr" / "actor" / "0001_21.jpg").unlink()
    (nus_wide / "Flickr" / "zebra" / "0001_9.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        assert list(labels_by_id(nus_wide, "train")) == ["actor/0002_22.jpg"]
    assert len(caplog.records) == 1
    assert "2 of 3" in caplog.text and "actor/0001_21.jpg" in caplog.text


def test_each_list_of_nus_wide_is_a_dataset_with_and_without_unlabeled_images(nus_wide):
    (nus_wide / "lists" / "random_val.txt").write_text("actor/0001_21.jpg\n")
    splits = ("random_val", "train", "test")
    names = {f"nus_wide_{split}_multilabel{ending}" for split in splits for ending in ("", "_labeled")}
    sources = nus_wide_sources(nus_wide.parent)
    assert set(sources) == names and all(source.exists() for source in sources.values())
    assert len(sources["nus_wide_train_multilabel_labeled"].load().records) == 2


TRAIN = "ImageList/TrainImagelist.txt"
BEAR = "Groundtruth/TrainTestLabels/Labels_bear_Train.txt"
BAD_NUS_WIDE = {
    "empty list": (_write(TRAIN, "\n"), "TrainImagelist.txt: "),
    "path outside": (_write(TRAIN, "a\\..\\..\\1.jpg\n"), "TrainImagelist.txt: line 1: file name 'a/../../1.jpg'"),
    "label": (_write(BEAR, "1\n0\n-1\n"), "Labels_bear_Train.txt: "),
    "no images": (lambda d: (d / "Flickr").rename(d / "x"), "Flickr, "),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_NUS_WIDE.values(), ids=BAD_NUS_WIDE)
def test_bad_input_of_nus_wide_is_named(nus_wide, spoil, message):
    spoil(nus_wide)
    with pytest.raises(InputError, match=f"^{nus_wide}/.*{message}"):
        load_nus_wide(nus_wide, "train")
