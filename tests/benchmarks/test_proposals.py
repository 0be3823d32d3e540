from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mlickd.benchmarks.proposals import plain_edge_boxes
from mlickd.data import ProposalStore, dataset_records
from mlickd.data.proposals.generation import generate_proposals
from mlickd.errors import InputError


def test_the_plain_loop_finds_the_same_boxes(tiny_scenes: Path, tmp_path: Path) -> None:
    records = []
    for record in dataset_records("tiny_train")[:3]:
        # Without JPEG, whose decoders differ by rounding.
        path = tmp_path / f"{record['image_id']}.png"
        cv2.imwrite(str(path), cv2.imread(record["file_name"]))
        records.append({**record, "file_name": str(path)})
    store = ProposalStore.open(generate_proposals(records, "edge_boxes", None, tmp_path / "store", workers=0))
    plain = plain_edge_boxes([record["file_name"] for record in records])
    for record, (boxes, scores) in zip(records, plain, strict=True):
        ours = {tuple(box) for box in store[record["image_id"]][0].round(2).tolist()}
        found = {tuple(box) for box in boxes.astype(np.float32).round(2).tolist()}
        # OpenCV finds a few boxes twice, and the store takes others in their place.
        assert len(found & ours) > 0.98 * len(ours) > 100
        assert (np.diff(scores) <= 0).all()


def test_a_photo_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("no photo")
    with pytest.raises(InputError, match=r"photo\.jpg: cannot be read as an image"):
        plain_edge_boxes([str(tmp_path / "photo.jpg")])
