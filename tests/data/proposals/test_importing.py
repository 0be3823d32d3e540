"""Proposals of other projects are read, matched to the images of a dataset, and checked."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detectron2.structures import BoxMode
from PIL import Image
from scipy.io import savemat

from mlickd.data.proposals.file_formats import read_detectron2_pickle, read_mcg_folder, read_release_list, read_voc_mat
from mlickd.data.proposals.importing import import_proposals
from mlickd.errors import InputError

BOX = np.array([[1.0, 2.0, 11.0, 9.0]])
BOXES = np.array([[0, 0, 4, 4], [1.5, 2, 9, 8], [3, 3, 5, 7]], dtype=np.float32)


@pytest.fixture
def records(tmp_path: Path) -> list[dict]:
    records = []
    for image_id, name in ((42, "COCO_val_000042.jpg"), ("x", "house/1.png"), ("y", "garden/1.png")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(path)
        records.append({"file_name": str(path), "image_id": image_id, "width": 20, "height": 10})
    return records


@pytest.mark.parametrize(
    "first", ["42", "COCO_val_000042", "val2014/COCO_val_000042.jpg", "C:\\a\\COCO_val_000042.jpg"]
)
def test_images_are_found_by_id_or_file_name(first: str, records: list[dict], tmp_path: Path) -> None:
    proposals = [(first, BOX, None), ("house/1.png", BOX, [0.5]), ("old/garden/1", BOX, [2.0])]
    proposals += [("other", BOX, None), ("COCO_val_000042.v2", BOX, None)]
    store = import_proposals(proposals, records, tmp_path / "p", "here", "m", {})
    store.check(records)
    np.testing.assert_array_equal(store[42][0], BOX)
    assert [store[image_id][1].item() for image_id in (42, "x", "y")] == [1.0, 0.5, 2.0]


def test_boxes_in_a_square_are_scaled_and_clipped_and_empty_ones_left_out(records: list[dict], tmp_path: Path) -> None:
    boxes = np.array([[0, 0, 672, 672], [336, 168, 672.5, 336], [0, 0, 0, 0]])
    bare = [{"file_name": records[0]["file_name"], "image_id": 42}]
    for dataset in (records[:1], bare):
        store = import_proposals([("42", boxes, None)], dataset, tmp_path / "p", "here", "m", {}, side=672)
        np.testing.assert_array_equal(store[42][0], [[0, 0, 20, 10], [10, 2.5, 20, 5]])


@pytest.mark.parametrize(
    ("proposals", "message"),
    [
        ([("42", BOX, None)], "2 of 3 images.*x"),
        ([("1.png", BOX, None)], "1.png"),
        ([("42", BOX, None), ("COCO_val_000042", BOX, None)], "COCO_val_000042 and 42"),
        ([("42", BOX[:, [2, 1, 0, 3]], None)], r"image 42: box 0 \[11, 2, 1, 9\]"),
        ([("42", BOX[:, [1, 0, 3, 2]] + 3, None)], "image 42: box 0"),
        ([("42", BOX, [np.inf])], "image 42: box 0"),
        ([("42", np.zeros((0, 4)), None)], "image 42"),
    ],
)
def test_a_bad_import_writes_nothing(proposals: list, message: str, records: list[dict], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^here: .*{message}"):
        import_proposals(proposals, records, tmp_path / "p", "here", "m", {})
    assert not list(tmp_path.glob("p/*"))


def test_logits_of_detectron2_become_probabilities(tmp_path: Path) -> None:
    content = {"ids": ["a"], "boxes": [BOXES], "objectness_logits": [np.log([9.0, 1.0, 0.25])], "bbox_mode": 0}
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(content))
    ((image_id, boxes, scores),) = read_detectron2_pickle(tmp_path / "p.pkl")
    assert image_id == "a"
    np.testing.assert_array_equal(boxes, BOXES)
    np.testing.assert_allclose(scores, [0.9, 0.5, 0.2])


def test_keys_of_detectron_and_other_box_modes_are_read(tmp_path: Path) -> None:
    content = {"indexes": [3], "boxes": [np.array([[1, 2, 3, 4]])], "scores": [[0.5]], "bbox_mode": BoxMode.XYWH_ABS}
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(content))
    ((image_id, boxes, scores),) = read_detectron2_pickle(tmp_path / "p.pkl")
    assert image_id == "3" and boxes.tolist() == [[1, 2, 4, 6]] and scores.tolist() == [0.5]


def cells(values: list) -> np.ndarray:
    """Return a 1 x N cell array."""
    array = np.empty((1, len(values)), dtype=object)
    array[0] = values
    return array


MATLAB_7_3 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400)


@pytest.mark.parametrize(
    ("reader", "content", "message"),
    [
        (read_detectron2_pickle, pickle.dumps({"ids": [1], "boxes": [BOXES], "objectness_logits": [[1, 2]]}), ""),
        (read_voc_mat, b"not a MATLAB file" * 20, ""),
        (read_voc_mat, MATLAB_7_3, "version 7.3; save it in MATLAB with -v7"),
        (read_voc_mat, {"boxes": cells([np.zeros((1, 4))]), "images": cells(["a", "b"])}, ""),
        (lambda path: read_mcg_folder(path.parent), {"bboxes": np.ones((1, 4))}, ""),
        (lambda path: read_release_list(path, 3), b"\xef\xbb\xbfa.jpg 0 1 0\n\na.jpg 0 1 2 1 2 3 4 5\n", "line 3"),
        (lambda path: read_release_list(path, 3), b"a.jpg 0 1 0 1 2 3 4\n", "line 1"),
    ],
)
def test_a_damaged_file_is_named(reader: Callable, content: dict | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "proposals.mat"
    path.write_bytes(content) if isinstance(content, bytes) else savemat(path, content)
    with pytest.raises(InputError, match=f"{path}.*{message}"):
        list(reader(path))
