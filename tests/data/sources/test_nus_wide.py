from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mlickd.data.sources.nus_wide import load_nus_wide, nus_wide_sources
from mlickd.errors import InputError

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


def _ids(folder: Path, split: str, **options: bool) -> dict[str, list[int]]:
    return {record["image_id"]: record["labels"] for record in load_nus_wide(folder, split, **options).records}


def test_records_have_labels_and_ids(nus_wide):
    assert _ids(nus_wide, "train") == {"actor/0001_21.jpg": [1, 2], "actor/0002_22.jpg": [], "zebra/0001_9.jpg": [0]}
    assert _ids(nus_wide, "test", keep_unlabeled=False) == {"bear cub/0001_8.jpg": [2]}
    dataset = load_nus_wide(nus_wide, "train")
    assert dataset.class_names == CONCEPTS and dataset.records.box_classes() == []
    assert dataset.image_root == str(nus_wide / "Flickr")
    # The official files do not give sizes, and images are not opened.
    file_name = str(nus_wide / "Flickr" / "actor" / "0001_21.jpg")
    assert dataset.records[0] == {"file_name": file_name, "image_id": "actor/0001_21.jpg", "labels": [1, 2]}


def test_another_list_takes_its_labels_from_both_parts(nus_wide):
    (nus_wide / "lists" / "mine.txt").write_bytes("\ufeffbear cub/0001_8.jpg\r\n\r\nactor\\0002_22.jpg".encode())
    assert list(_ids(nus_wide, "mine").items()) == [("bear cub/0001_8.jpg", [2]), ("actor/0002_22.jpg", [])]
    assert _ids(nus_wide, "mine", keep_unlabeled=False) == {"bear cub/0001_8.jpg": [2]}
    (nus_wide / "lists" / "mine.txt").write_text("actor/0001_21.jpg\nactor/1_1.jpg\n")
    with pytest.raises(InputError, match=r"mine\.txt: 'actor/1_1.jpg'"):
        load_nus_wide(nus_wide, "mine")


def test_files_of_other_programs_are_read(nus_wide):
    expected = load_nus_wide(nus_wide, "train")
    for path in [*nus_wide.glob("ImageList/*"), *nus_wide.glob("ConceptsList/*"), *nus_wide.glob("Groundtruth/*/*")]:
        text = path.read_text().replace("\\", "/").replace("\n", " \r\n\r\n")
        path.write_bytes(("\ufeff" + text).encode())
    assert load_nus_wide(nus_wide, "train") == expected


def test_missing_images_are_counted_in_one_warning(nus_wide, caplog):
    (nus_wide / "Flickr" / "actor" / "0001_21.jpg").unlink()
    (nus_wide / "Flickr" / "zebra" / "0001_9.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        assert list(_ids(nus_wide, "train")) == ["actor/0002_22.jpg"]
    assert len(caplog.records) == 1
    assert "2 of 3" in caplog.text and "actor/0001_21.jpg" in caplog.text


def test_each_list_is_a_dataset_with_and_without_unlabeled_images(nus_wide):
    (nus_wide / "lists" / "random_val.txt").write_text("actor/0001_21.jpg\n")
    splits = ("random_val", "train", "test")
    names = {f"nus_wide_{split}_multilabel{ending}" for split in splits for ending in ("", "_labeled")}
    sources = nus_wide_sources(nus_wide.parent)
    assert set(sources) == names and all(source.exists() for source in sources.values())
    assert len(sources["nus_wide_train_multilabel_labeled"].load().records) == 2


def _write(name: str, text: str) -> Callable[[Path], object]:
    return lambda d: (d / name).write_text(text)


TRAIN = "ImageList/TrainImagelist.txt"
BEAR = "Groundtruth/TrainTestLabels/Labels_bear_Train.txt"
BAD = {
    "empty list": (_write(TRAIN, "\n"), "TrainImagelist.txt: "),
    "path outside": (_write(TRAIN, "a\\..\\..\\1.jpg\n"), "TrainImagelist.txt: line 1: file name 'a/../../1.jpg'"),
    "label": (_write(BEAR, "1\n0\n-1\n"), "Labels_bear_Train.txt: "),
    "no images": (lambda d: (d / "Flickr").rename(d / "x"), "Flickr, "),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(nus_wide, spoil, message):
    spoil(nus_wide)
    with pytest.raises(InputError, match=f"^{nus_wide}/.*{message}"):
        load_nus_wide(nus_wide, "train")
