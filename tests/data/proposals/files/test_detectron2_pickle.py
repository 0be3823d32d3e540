from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from detectron2.data.build import load_proposals_into_dataset
from detectron2.structures import BoxMode

from mlickd.data import ProposalStore, write_store
from mlickd.data.proposals.files import read_detectron2_pickle, write_detectron2_pickle
from mlickd.errors import InputError

BOXES = np.array([[0, 0, 4, 4], [1.5, 2, 9, 8], [3, 3, 5, 7]], dtype=np.float32)


@pytest.fixture
def store(tmp_path: Path) -> ProposalStore:
    items = [("a/1.jpg", BOXES, np.array([0.9, 0.5, 0.25])), (17, BOXES[::-1], np.ones(3))]
    write_store(tmp_path / "p", items, "m", {}, "d")
    return ProposalStore.open(tmp_path / "p")


def test_round_trip(store: ProposalStore, tmp_path: Path) -> None:
    write_detectron2_pickle(store, tmp_path / "new" / "p.pkl")
    items = list(read_detectron2_pickle(tmp_path / "new" / "p.pkl"))
    write_store(tmp_path / "again", items, "m", {}, "d")
    again = ProposalStore.open(tmp_path / "again")
    assert list(again) == list(store)
    for image_id in store:
        np.testing.assert_array_equal(again[image_id][0], store[image_id][0])
        np.testing.assert_allclose(again[image_id][1], store[image_id][1], rtol=1e-6)
    np.testing.assert_array_equal(again["a/1.jpg"][1], store["a/1.jpg"][1])


def test_detectron2_reads_it_in_our_order(store: ProposalStore, tmp_path: Path) -> None:
    write_detectron2_pickle(store, tmp_path / "p.pkl")
    records = load_proposals_into_dataset([{"image_id": 17}, {"image_id": "a/1.jpg"}], str(tmp_path / "p.pkl"))
    for record in records:
        np.testing.assert_array_equal(record["proposal_boxes"], store[record["image_id"]][0])
        assert record["proposal_boxes"].dtype == np.float32
        assert record["proposal_bbox_mode"] == BoxMode.XYXY_ABS


def test_names_no_module_that_moved(store: ProposalStore, tmp_path: Path) -> None:
    write_detectron2_pickle(store, tmp_path / "p.pkl")
    content = (tmp_path / "p.pkl").read_bytes()
    assert b"numpy.core" not in content and b"numpy._core" not in content and b"mlickd" not in content


def test_old_names_and_other_modes(tmp_path: Path) -> None:
    content = {"indexes": [3], "boxes": [np.array([[1, 2, 3, 4]])], "scores": [[0.5]], "bbox_mode": BoxMode.XYWH_ABS}
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(content))
    ((image_id, boxes, scores),) = read_detectron2_pickle(tmp_path / "p.pkl")
    assert image_id == "3" and boxes.tolist() == [[1, 2, 4, 6]] and scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "holds a list; save a dict"),
        ({"ids": [1], "boxes": [BOXES]}, "has no list 'objectness_logits'; save it with one; its keys are ids, boxes"),
        ({"ids": [1, 2], "boxes": [BOXES], "objectness_logits": [[1]]}, "different lengths"),
        ({"ids": [1], "boxes": [BOXES], "objectness_logits": [[1]], "bbox_mode": 4}, "bbox_mode is 4"),
        ({"ids": [1], "boxes": [BOXES], "objectness_logits": [[1]], "bbox_mode": [0]}, r"bbox_mode is \[0\]"),
        (
            {"ids": [1], "boxes": [[1, 2, 3]], "objectness_logits": [[1]]},
            r"image 1: boxes of shape \(3,\), not \(R, 4\)",
        ),
        (
            {"ids": [1], "boxes": [BOXES.T], "objectness_logits": [[1]]},
            r"image 1: boxes of shape \(4, 3\), not \(R, 4\)",
        ),
        ({"ids": [1], "boxes": [["x"]], "objectness_logits": [[1]]}, "image 1: boxes or logits are no arrays"),
    ],
)
def test_bad_content(content: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=message):
        list(read_detectron2_pickle(tmp_path / "p.pkl"))
