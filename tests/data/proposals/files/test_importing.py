from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlickd.data import ProposalStore
from mlickd.data.proposals.files import import_proposals
from mlickd.errors import InputError

BOX = np.array([[1.0, 2.0, 11.0, 9.0]])


@pytest.fixture
def records(tmp_path: Path) -> list[dict]:
    records = []
    for image_id, name in ((42, "COCO_val_000042.jpg"), ("x", "house/1.png"), ("y", "garden/1.png")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(path)
        records.append({"file_name": str(path), "image_id": image_id, "width": 20, "height": 10})
    return records


def bring_in(proposals: list, records: list[dict], path: Path, **arguments: object):
    return import_proposals(proposals, records, path, source="here", method="m", parameters={}, **arguments)


@pytest.mark.parametrize(
    "first", ["42", "COCO_val_000042", "val2014/COCO_val_000042.jpg", "C:\\data\\COCO_val_000042.jpg"]
)
def test_images_are_found_by_id_or_file_name(first: str, records: list[dict], tmp_path: Path) -> None:
    proposals = [(first, BOX, None), ("house/1.png", BOX, [0.5]), ("old/garden/1", BOX, [2.0]), ("other", BOX, None)]
    counts = bring_in(proposals, records, tmp_path / "p")
    assert (counts.images, counts.boxes, counts.other_images, counts.example) == (3, 3, 1, "other")
    store = ProposalStore.open(tmp_path / "p")
    store.check(records)
    np.testing.assert_array_equal(store[42][0], BOX)
    assert [store[image_id][1].item() for image_id in (42, "x", "y")] == [1.0, 0.5, 2.0]


def test_boxes_of_a_square_are_stretched_clipped_and_emptied(records: list[dict], tmp_path: Path) -> None:
    boxes = np.array([[0, 0, 672, 672], [336, 168, 672.5, 336], [0, 0, 0, 0]])
    counts = bring_in([("42", boxes, [3, 2, 0])], records[:1], tmp_path / "p", side=672)
    assert (counts.boxes, counts.empty_boxes) == (2, 1)
    np.testing.assert_array_equal(ProposalStore.open(tmp_path / "p")[42][0], [[0, 0, 20, 10], [10, 2.5, 20, 5]])


def test_sizes_that_a_data_set_does_not_know_are_those_of_its_images(records: list[dict], tmp_path: Path) -> None:
    bare = [{"file_name": records[0]["file_name"], "image_id": 42}]
    bring_in([("42", np.array([[0, 0, 672, 672]]), None)], bare, tmp_path / "p", side=672)
    np.testing.assert_array_equal(ProposalStore.open(tmp_path / "p")[42][0], [[0, 0, 20, 10]])
    with pytest.raises(InputError, match="leaves the image of 20 x 10 pixels"):
        bring_in([("42", BOX * 3, None)], bare, tmp_path / "p")


def test_order_is_kept_without_scores(records: list[dict], tmp_path: Path) -> None:
    boxes = np.array([[5, 5, 9, 9], [0, 0, 3, 3], [1, 1, 8, 8]])
    bring_in([("42", boxes, None)], records[:1], tmp_path / "p")
    np.testing.assert_array_equal(ProposalStore.open(tmp_path / "p")[42][0], boxes)


@pytest.mark.parametrize(
    ("proposals", "message"),
    [
        ([("42", BOX, None)], "no proposals for 2 of 3 images of the dataset, the first is x; give the file"),
        ([("a", BOX, None)], "no proposals for 3 of 3 .*; 1 of its images are not in the dataset, like a"),
        ([("1.png", BOX, None)], "1.png fits 2 images of the dataset"),
        ([("42", BOX, None), ("COCO_val_000042", BOX, None)], "COCO_val_000042 and 42 are the same image"),
        ([("42", BOX[:, [2, 1, 0, 3]], None)], r"box 0 \[11, 2, 1, 9\] .*: it is inverted"),
        ([("42", BOX[:, [1, 0, 3, 2]] + 3, None)], r"box 0 .*leaves the image of 20 x 10 pixels"),
        ([("42", BOX * np.nan, None)], "it or its score is not finite"),
        ([("42", BOX, [np.inf])], "it or its score is not finite"),
        ([("42", BOX, [1, 2])], "1 boxes and 2 scores"),
        ([("42", np.zeros((0, 4)), None)], "image 42 has not one box"),
    ],
)
def test_what_is_refused(proposals: list, message: str, records: list[dict], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^here: .*{message}") as error:
        bring_in(proposals, records, tmp_path / "p")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "p").exists()
