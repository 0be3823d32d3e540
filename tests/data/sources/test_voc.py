from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.data import MetadataCatalog
from PIL import Image

from mlickd.data import catalog
from mlickd.data.sources.voc import VOC_CLASSES, load_voc_multilabel, voc_sources
from mlickd.errors import InputError

CAT, DOG, PERSON = (VOC_CLASSES.index(name) for name in ("cat", "dog", "person"))


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


def test_records_have_labels_sizes_and_boxes(devkit):
    dataset = load_voc_multilabel(devkit, "trainval")
    assert dataset.class_names == list(VOC_CLASSES) == sorted(VOC_CLASSES) and len(VOC_CLASSES) == 20
    assert dataset.records.box_classes() == [CAT, DOG, PERSON] and dataset.image_root == str(devkit / "JPEGImages")
    assert [record["image_id"] for record in dataset.records] == list(ANNOTATIONS)
    first, second, third = dataset.records
    assert first["file_name"] == str(devkit / "JPEGImages" / "000001.jpg")
    assert (first["height"], first["width"]) == (30, 40)
    assert [box["difficult"] for box in first["annotations"] + second["annotations"]] == [1, 0, 1, 0]
    # Pixels are counted from 1.
    assert [box["bbox"] for box in first["annotations"][:2]] == [[0, 0, 40, 30], [4, 5, 7, 8]]
    assert second["annotations"][0]["bbox"] == [3.5, 1, 40, 30]
    assert third["labels"] == third["annotations"] == []


def test_names_give_the_protocol_for_difficult_objects(devkit, monkeypatch, catalogs):
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
    assert metadata.year == 2007 and metadata.box_classes == [CAT, DOG, PERSON]
    assert [record["labels"] for record in records] == [[CAT], [CAT, DOG], [CAT]]
    # One object that is not difficult makes its class a label.
    assert records[0]["ignored_labels"] == [DOG] and "ignored_labels" not in records[1] | records[2]


def test_files_of_other_programs_are_read(devkit):
    expected = load_voc_multilabel(devkit, "trainval")
    lines = "\ufeff000001 \r\n\r\n000012\r\n000003"
    (devkit / "ImageSets" / "Main" / "trainval.txt").write_bytes(lines.encode())
    for path in (devkit / "Annotations").iterdir():
        path.write_bytes(("\ufeff<?xml version='1.0'?>\r\n" + path.read_text()).encode())
    assert load_voc_multilabel(devkit, "trainval") == expected


def test_boxes_that_leave_the_image_are_clipped_with_a_warning(devkit, caplog):
    _xml(_annotation(_object("cat", (0, 1, 45, 9)), _object("cat", (41, 1, 50, 9))))(devkit)
    with caplog.at_level(logging.WARNING):
        record = load_voc_multilabel(devkit, "trainval").records[0]
    assert [box["bbox"] for box in record["annotations"]] == [[0, 0, 40, 9]]
    assert "000001.xml" in caplog.text and len(caplog.records) == 1


def _list(text: str) -> Callable[[Path], object]:
    return lambda d: (d / "ImageSets" / "Main" / "trainval.txt").write_text(text)


def _xml(text: str | bytes) -> Callable[[Path], object]:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda d: (d / "Annotations" / "000001.xml").write_bytes(data)


BAD = {
    "image name": (_list("../Annotations/000001\n"), "trainval.txt: line 1: file name '../Annotations/000001'"),
    "image": (lambda d: (d / "JPEGImages/000012.jpg").unlink(), "JPEGImages/000012.jpg: "),
    "xml": (_xml(ANNOTATIONS["000001"][:99] + "\n"), "000001.xml: "),
    "encoding": (_xml(_annotation().encode("utf-16")), "000001.xml: "),
    "size": (_xml("<annotation/>"), "000001.xml: "),
    "class": (_xml(_annotation(_object("zebra", (1, 1, 2, 2)))), "000001.xml: "),
    "box": (_xml(_annotation(_object("cat", (9, 1, 2, 2)))), "000001.xml: "),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(devkit, spoil, message):
    spoil(devkit)
    with pytest.raises(InputError, match=f"^{devkit}/.*{message}"):
        load_voc_multilabel(devkit, "trainval")
