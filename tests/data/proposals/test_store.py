"""A store returns the written proposals, names a bad box, and refuses shards that do not belong together."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlickd.data.proposals import store as store_module
from mlickd.data.proposals.store import ProposalStore, write_store
from mlickd.errors import InputError
from mlickd.tensor_shards import Shard, write_shard

BOXES = np.array([[0, 0, 10, 10], [5, 5, 20.5, 30], [1, 2, 3, 4]], dtype=np.float32)
SCORES = np.array([0.2, 0.9, 0.2], dtype=np.float32)
SECOND = "00001-of-00002.safetensors"

finite = st.floats(-1e6, 1e6, width=32)
images = st.dictionaries(
    st.text(max_size=8) | st.integers(),
    st.integers(0, 6).flatmap(
        lambda count: st.tuples(
            arrays(np.float32, (count, 4), elements=finite), arrays(np.float32, count, elements=finite)
        )
    ),
    max_size=6,
).filter(lambda images: len({str(image_id) for image_id in images}) == len(images))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "IMAGES_PER_SHARD", 2)


def write(path: Path, *boxes: np.ndarray, method: str = "edge_boxes") -> ProposalStore:
    """Write a store with boxes of the images 0, 1, ...; all scores are 1."""
    items = [(index, image_boxes, np.ones(len(image_boxes))) for index, image_boxes in enumerate(boxes)]
    write_store(path, items, method, {"beta": 0.5}, "digest")
    return ProposalStore(path)


@settings(max_examples=30)
@given(images=images)
def test_a_store_returns_the_written_proposals(tmp_path_factory: pytest.TempPathFactory, images: dict) -> None:
    path = tmp_path_factory.mktemp("store") / "p"
    items = ((name, *value) for name, value in images.items())
    write_store(path, items, "m", {"a": [1, "b"]}, "digest", num_images=len(images))
    store = pickle.loads(pickle.dumps(ProposalStore(path)))
    assert list(store) == [str(name) for name in images] and len(store) == len(images)
    for name, (boxes, scores) in images.items():
        found_boxes, found_scores = store[name]
        best: dict[tuple, float] = {}
        for box, score in zip(boxes.tolist(), scores.tolist(), strict=True):
            best[tuple(box)] = max(score, best.get(tuple(box), -np.inf))
        assert found_scores.tolist() == sorted(best.values(), reverse=True)
        assert dict(zip(map(tuple, found_boxes.tolist()), found_scores.tolist(), strict=True)) == best
    assert (store.header["method"], store.header["parameters"]) == ("m", {"a": [1, "b"]})
    with pytest.raises(InputError, match=str(path)):
        store["not there"]


def test_digest_depends_only_on_ids_boxes_and_scores(tmp_path: Path) -> None:
    digest = write(tmp_path / "a", BOXES, BOXES, BOXES).digest
    assert write(tmp_path / "b", BOXES, BOXES, BOXES, method="other").digest == digest
    assert write(tmp_path / "c", BOXES, BOXES, BOXES[:2]).digest != digest
    write_store(tmp_path / "d", [(name, BOXES, np.ones(3)) for name in (0, 1, "2b")], "edge_boxes", {}, "digest")
    assert ProposalStore(tmp_path / "d").digest != digest


def test_a_failed_write_leaves_the_old_store_and_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, BOXES)
    (tmp_path / "note.txt").touch()
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(InputError, match=str(tmp_path)):
        write(tmp_path, BOXES, BOXES, BOXES)
    assert sorted(tmp_path.iterdir()) == before
    monkeypatch.undo()
    write(tmp_path, *[BOXES] * 300)
    assert (tmp_path / "note.txt").exists() and len(ProposalStore(tmp_path)) == 300


@pytest.mark.parametrize(("num_images", "second"), [(1, "b"), (3, "b"), (2, "a")])
def test_a_wrong_number_of_items_is_refused(tmp_path: Path, num_images: int, second: str) -> None:
    items = iter([("a", BOXES, SCORES), (second, BOXES, SCORES)])
    with pytest.raises(InputError, match=f"num_images.*{num_images}"):
        write_store(tmp_path / "store", items, "m", {}, "d", num_images=num_images)
    assert not list((tmp_path / "store").iterdir())


def test_a_replaced_shard_is_not_read(tmp_path: Path) -> None:
    store = write(tmp_path, BOXES, BOXES)
    write(tmp_path, BOXES[:1], BOXES)
    with pytest.raises(InputError, match="00000-of-00001.safetensors"):
        store[0]


def test_shards_of_two_layouts_are_refused(tmp_path: Path) -> None:
    for name, count in (("a", 3), ("b", 5)):
        write(tmp_path / name, *[BOXES] * count)
    shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
    with pytest.raises(InputError, match="2 files, 3 files"):
        ProposalStore(tmp_path / "a")


def change(path: Path, **changes: object) -> None:
    """Replace tensors and metadata of a shard."""
    shard = Shard(path, "")
    with shard.open() as file:
        tensors = {name: changes.pop(name, file.get_tensor(name)) for name in file.keys()}
    write_shard(path, tensors, {**shard.read_metadata(), **changes}, "")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"method": "other"}, f"{SECOND}: .*method"),
        ({"num_images": "3"}, SECOND),
        ({"ids": None}, SECOND),
        ({"ids": ["0"]}, f"{SECOND}: .*images"),
        ({"ids": ["2", "3"], "offsets": np.array([0, 3, 3])}, f"{SECOND}: .*images"),
        ({"scores": np.zeros(3)}, SECOND),
        ({"offsets": np.array([0, 2])}, SECOND),
    ],
)
def test_shards_of_different_stores_are_refused(tmp_path: Path, changes: dict, field: str) -> None:
    write(tmp_path, BOXES, BOXES, BOXES)
    change(tmp_path / SECOND, **changes)
    with pytest.raises(InputError, match=field) as error:
        ProposalStore(tmp_path)["2"]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "box", [[0, 0, np.nan, 10], [0, 0, np.inf, 10], [9, 0, 5, 10], [5, 0, 5, 10], [-1, 0, 5, 10], [0, 0, 40.5, 10]]
)
def test_check_names_the_bad_box(tmp_path: Path, box: list[float]) -> None:
    records = [{"image_id": index, "width": 40, "height": 30} for index in range(5)]
    bad = np.array([*BOXES, box], dtype=np.float32)
    for position in (0, 3, 4):
        boxes = [bad if index == position else BOXES[: 1 + index % 3] for index in range(5)]
        store = write(tmp_path / str(position), *boxes)
        store.check(records[:position] + records[position + 1 :])
        with pytest.raises(InputError, match=rf"{position}: image {position}: box 3 \["):
            store.check(records)
        if box[2] == 40.5:
            store.check([{"image_id": position}])  # its size is not known


def test_check_names_the_image(tmp_path: Path) -> None:
    write_store(tmp_path, [("b", BOXES[:0], SCORES[:0]), ("c", BOXES, SCORES * np.nan)], "m", {}, "d")
    for name, problem in (("b", "no boxes"), ("c", "score nan"), ("d", "no proposals")):
        with pytest.raises(InputError, match=f"{problem} for image {name}|image {name}.*{problem}"):
            ProposalStore(tmp_path).check([{"image_id": name}])
