"""Parts of datasets: which images are in which, and that everything takes them by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from hypothesis import given
from hypothesis import strategies as st

from mlickd.config import default_config
from mlickd.data import catalog, open_proposals, proposals_path, write_store
from mlickd.data.checking.split_checks import check_proposals
from mlickd.data.parts import DatasetPart, parse_part, whole_name
from mlickd.data.proposals.dataset_proposals import image_list_digest
from mlickd.data.records import without_boxes
from mlickd.errors import InputError


def test_names_and_the_dealing_of_images() -> None:
    ids = [f"{index}.jpg" for index in range(10)]
    ranked = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert {ids[i] for i in DatasetPart("x", 2, 3).indices(ids)} == {ranked[1], ranked[4], ranked[7]}
    assert parse_part("pets_train") is None and parse_part("pets@home_train") is None
    assert parse_part("pets_train@not1of4@2of3") == DatasetPart("pets_train@not1of4", 2, 3)
    for name in ("pets_train@2of3", "pets_train@not2of3"):
        assert str(parse_part(name)) == name
    assert whole_name("pets_train@not1of4@2of3") == whole_name("pets_train") == "pets_train"


@given(
    st.lists(st.one_of(st.text(), st.integers()), min_size=2, max_size=60, unique_by=str),
    st.integers(2, 9),
    st.randoms(),
)
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


def test_a_part_has_records_classes_and_metadata_of_the_whole(tiny_scenes: Path) -> None:
    whole = {record["image_id"]: record for record in catalog.dataset_records("tiny_train")}
    seen = []
    for number in (1, 2, 3):
        name = f"tiny_train@{number}of3"
        records = catalog.dataset_records(name)
        assert len(records) == 8 and records == [whole[record["image_id"]] for record in records]
        assert catalog.dataset_records(name, boxes=False) == [without_boxes(record) for record in records]
        assert DatasetCatalog.get(name) == records
        seen += [record["image_id"] for record in records]
    assert sorted(seen) == sorted(whole)
    others = [record["image_id"] for record in catalog.dataset_records("tiny_train@not3of3")]
    assert others == [image_id for image_id in whole if image_id in seen[:16]]
    metadata, of_whole = MetadataCatalog.get("tiny_train@not3of3"), MetadataCatalog.get("tiny_train")
    assert metadata.as_dict() == {**of_whole.as_dict(), "name": "tiny_train@not3of3"}
    assert len(catalog.dataset_records("tiny_train@not3of3@1of4")) == 4
    assert not any("@" in name for name in catalog.available_datasets())


def test_a_part_follows_its_whole(tmp_path: Path, tiny_scenes: Path, monkeypatch, catalogs) -> None:
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
    assert {record["image_id"] for record in catalog.dataset_records("mine@not1of2")} <= {10, 11, 12}
    catalog.ensure_registered("tiny_train@1of2")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(InputError, match="'tiny_train'"):
        catalog.ensure_registered("tiny_train@1of2")


@pytest.mark.parametrize("part", ["4of3", "0of3", "1of1", "not25of25", "1/3"])
def test_wrong_names_are_one_line(tiny_scenes: Path, part: str) -> None:
    with pytest.raises(InputError, match=f"'tiny_train@{part}'[^\n]*$"):
        catalog.dataset_records(f"tiny_train@{part}")


def test_a_part_has_the_proposals_of_the_whole(tiny_scenes: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "tiny").symlink_to(tiny_scenes / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    path = proposals_path("tiny_train", "edge_boxes")
    assert proposals_path("tiny_train@1of3", "edge_boxes") == path
    cfg = default_config()
    with pytest.raises(InputError, match=f"{path}: .* --dataset tiny_train "):
        open_proposals(cfg, "tiny_train@1of3")
    whole = catalog.dataset_records("tiny_train")
    part = catalog.dataset_records("tiny_train@1of3")
    for records in (whole, part):
        box = np.array([[0, 0, 50, 50]], dtype=np.float32), np.ones(1, dtype=np.float32)
        items = [(record["image_id"], *box) for record in records]
        write_store(path, items, "edge_boxes", {}, image_list_digest(records))
        open_proposals(cfg, "tiny_train@1of3").check(part)
        assert len(list(check_proposals("tiny_train@1of3", part))) == (records is part)
