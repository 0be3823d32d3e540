from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlickd.data import proposals_path, write_store
from mlickd.data.checking.proposals import check_proposals
from mlickd.data.proposals.generation import image_list_digest


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    found = []
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
        found.append({"file_name": str(tmp_path / name), "image_id": name, "height": 30, "width": 40})
    return found


def write(name: str, method: str, records: list[dict], digest: str | None = None) -> Path:
    items = [(record["image_id"], np.array([[0, 0, 9, 9]]), np.array([0.5])) for record in records]
    write_store(proposals_path(name, method), items, method, {}, digest or image_list_digest(records))
    return proposals_path(name, method)


def test_imported_stores_are_looked_at_and_those_of_longer_names_are_not(records: list[dict]) -> None:
    for name, method in (("pets_train", "mcg"), ("pets_train", "edge_boxes"), ("pets_train_small", "wsddn")):
        write(name, method, records)
    write("pets_train_small", "edge_boxes", records[:1])
    damaged = write("pets_train", "oicr", records)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    statistics, findings = check_proposals("pets_train", records)
    assert list(statistics) == ["edge_boxes", "mcg"]
    assert [finding.severity for finding in findings] == ["error"] and "cut short" in findings[0].message
    assert list(check_proposals("pets_train_small", records)[0]) == ["wsddn"]


def test_unreadable_images_do_not_make_a_store_one_of_other_images(records: list[dict]) -> None:
    write("pets_train", "edge_boxes", records)
    assert check_proposals("pets_train", records)[1] == []
    assert check_proposals("pets_train", records[:1], complete=False)[1] == []
    assert check_proposals("pets_train", [], complete=False) == ({}, [])
    (warning,) = check_proposals("pets_train", records[:1])[1]
    assert warning.severity == "warning" and "other image files" in warning.message


def test_an_imported_store_that_must_be_there_names_the_tool_that_imports(records: list[dict]) -> None:
    (error,) = check_proposals("pets_train", records, ["mcg"])[1]
    assert error.severity == "error" and "tools/convert_proposals.py" in error.message
