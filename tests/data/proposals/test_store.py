from __future__ import annotations

import errno
import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlickd.data.proposals.store import ProposalStore, proposals_path, sort_proposals, write_store
from mlickd.errors import InputError

BOXES = np.array([[0, 0, 10, 10], [5, 5, 20.5, 30], [1, 2, 3, 4]], dtype=np.float32)
SCORES = np.array([0.2, 0.9, 0.2], dtype=np.float32)
RECORDS = [{"image_id": name, "width": 40, "height": 30} for name in ("a.jpg", "b.jpg")]

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


def write(path: Path, **images: np.ndarray) -> Path:
    """A store of boxes by image name; all have the score 1."""
    items = [(f"{name}.jpg", boxes, np.ones(len(boxes))) for name, boxes in images.items()]
    write_store(path, items, "edge_boxes", {"beta": 0.5}, "digest")
    return path


def replace_header(path: Path, **changes: object) -> None:
    """Change fields of the header; everything else stays."""
    data = path.read_bytes()
    end = 24 + struct.unpack("<Q", data[16:24])[0]
    header = json.dumps({**json.loads(data[24:end]), **changes}).encode()
    path.write_bytes(data[:16] + struct.pack("<Q", len(header)) + header + data[end:])


@given(images=images)
def test_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, images: dict) -> None:
    path = tmp_path_factory.mktemp("store") / "p.proposals"
    write_store(path, [(name, *value) for name, value in images.items()], "m", {"a": [1, "b"]}, "digest")
    store = ProposalStore.open(path)
    assert len(store) == len(images)
    assert sorted(store) == sorted(str(name) for name in images)
    for name, (boxes, scores) in images.items():
        assert name in store
        found_boxes, found_scores = store[name]
        best: dict[tuple, float] = {}
        for box, score in zip(boxes.tolist(), scores.tolist(), strict=True):
            best[tuple(box)] = max(score, best.get(tuple(box), -np.inf))
        assert found_scores.tolist() == sorted(best.values(), reverse=True)
        assert {
            tuple(box): score for box, score in zip(found_boxes.tolist(), found_scores.tolist(), strict=True)
        } == best
    assert (store.header["method"], store.header["parameters"]) == ("m", {"a": [1, "b"]})
    assert store.header["image_digest"] == "digest"
    assert set(store.header["libraries"]) == {"numpy", "opencv"}


def test_sorting_keeps_the_order_of_equal_scores_and_drops_repeated_boxes() -> None:
    boxes, scores = sort_proposals(BOXES[[0, 1, 2, 1]], np.array([0.2, 0.5, 0.2, 0.9]))
    np.testing.assert_array_equal(boxes, BOXES[[1, 0, 2]])
    np.testing.assert_array_equal(scores, np.array([0.9, 0.2, 0.2], dtype=np.float32))
    with pytest.raises(ValueError, match="3 boxes and 2 scores"):
        sort_proposals(BOXES, SCORES[:2])


def test_bytes_do_not_depend_on_the_order_of_the_images(tmp_path: Path) -> None:
    items = [(name, BOXES + index, SCORES) for index, name in enumerate(["é", "b", 7, "10", ""])]
    for name, order in (("one", items), ("two", items[::-1])):
        write_store(tmp_path / name, iter(order), "m", {"x": 1}, "d")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "p", tmp_path / "folder"):
        with pytest.raises(InputError, match=f"^{path}: cannot be written .*choose another place"):
            write(path, a=BOXES)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"p: cannot be written \(No space left on device\); make room"):
        write(tmp_path / "p", a=BOXES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_parts_are_aligned_and_views_are_read_only(tmp_path: Path) -> None:
    store = ProposalStore.open(write(tmp_path / "p", a=BOXES, odd_length=BOXES))
    boxes, scores = store["odd_length.jpg"]
    assert boxes.dtype == scores.dtype == np.float32
    assert store._boxes.ctypes.data % 8 == store._scores.ctypes.data % 8 == store._box_offsets.ctypes.data % 8 == 0
    for array in (boxes, scores):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_pickle_maps_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = ProposalStore.open(write(Path("p"), a=BOXES))
    data = pickle.dumps(store)
    assert len(data) < 1000
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(pickle.loads(data)["a.jpg"][0], BOXES)
    write(tmp_path / "p", a=BOXES, b=BOXES)
    with pytest.raises(InputError, match="was replaced while it was in use"):
        pickle.loads(data)


def test_image_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "p", b=BOXES)
    store = ProposalStore.open(path)
    for name in ("a.jpg", "b", "b.jpg2", "c.jpg", 3, ""):
        assert name not in store
        with pytest.raises(InputError, match=f"{path}: no proposals for image {name}; make it again"):
            store[name]


def test_empty_store(tmp_path: Path) -> None:
    write_store(tmp_path / "p", [], "m", {}, "d")
    store = ProposalStore.open(tmp_path / "p")
    assert len(store) == 0 and list(store) == [] and "a" not in store
    store.check([])


def test_an_image_that_comes_twice_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image 7 comes twice"):
        write_store(tmp_path / "p", [(7, BOXES, SCORES), ("7", BOXES, SCORES)], "m", {}, "d")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "p", a=BOXES)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="disk full"):
        write(path, b=BOXES)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_is_cut_short_anywhere(tmp_path: Path) -> None:
    path = write(tmp_path / "p", a=BOXES, b=BOXES)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=f"{path}: .*; make it again with tools/generate_proposals.py"):
            ProposalStore.open(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(InputError, match="not what its header says"):
        ProposalStore.open(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a proposal store"),
        (b"\x80\x04pickle" * 9, "is not a proposal store"),
        (struct.pack("<8sQQ", b"MLICKDPR", 9, 0), "has format version 9, not 1"),
        (struct.pack("<8sQQ", b"MLICKDPR", 1, 2**63), "damaged header"),
        (struct.pack("<8sQQ", b"MLICKDPR", 1, 4) + b"[1]\xff", "damaged header"),
        (struct.pack("<8sQQ", b"MLICKDPR", 1, 8) + b'{"a": 1}', "damaged header"),
        (struct.pack("<8sQQ", b"MLICKDPR", 1, 100_000) + b"[" * 100_000, "damaged header"),
    ],
)
def test_file_of_another_kind(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(InputError, match=f"p: {message}"):
        ProposalStore.open(tmp_path / "p")


@pytest.mark.parametrize("field", ["num_images", "num_boxes", "num_id_bytes"])
@pytest.mark.parametrize("value", [-1, 0, 4, 10**30, 1.5, True, "3", None, [1]])
def test_header_that_lies(tmp_path: Path, field: str, value: object) -> None:
    path = write(tmp_path / "p", a=BOXES, b=BOXES)
    replace_header(path, **{field: value})
    with pytest.raises(InputError, match=f"{path}: "):
        ProposalStore.open(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InputError, match=f"{path}: cannot be opened"):
            ProposalStore.open(path)


@given(changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_never_crashes(tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]) -> None:
    path = write(tmp_path_factory.mktemp("store") / "p", a=BOXES, b=BOXES, c=BOXES[:0])
    data = bytearray(path.read_bytes())
    for position, value in changes:
        data[position % len(data)] = value
    path.write_bytes(data)
    try:
        store = ProposalStore.open(path)
        for image_id in [*store, "a.jpg"]:
            boxes, scores = store[image_id]
            assert boxes.shape == (len(scores), 4)
        store.check(RECORDS)
    except InputError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ([0, 0, np.nan, 10], "is not finite"),
        ([0, 0, np.inf, 10], "is not finite"),
        ([9, 0, 5, 10], "is inverted"),
        ([0, 20, 5, 10], "is inverted"),
        ([5, 0, 5, 10], "has no area"),
        ([-1, 0, 5, 10], "is not inside the image of 40 x 30 pixels"),
        ([0, 0, 40.5, 10], "is not inside the image of 40 x 30 pixels"),
        ([0, 0, 40, 31], "is not inside the image of 40 x 30 pixels"),
    ],
)
def test_check_names_the_bad_box(tmp_path: Path, box: list[float], problem: str) -> None:
    bad = np.concatenate((BOXES, np.array([box], dtype=np.float32)))
    store = ProposalStore.open(write(tmp_path / "p", a=BOXES, b=bad, not_asked_for=bad))
    store.check(RECORDS[:1])
    with pytest.raises(InputError, match=rf"p: image b.jpg: box 3 \[.*\] {problem}.*; make it again"):
        store.check(RECORDS)


@pytest.mark.parametrize(
    ("box", "problem"),
    [([0, 0, np.inf, 10], "is not finite"), ([-1, 0, 5, 10], "is not inside"), ([0, 0, 999, 5], None)],
)
def test_check_of_an_image_of_unknown_size(tmp_path: Path, box: list[float], problem: str | None) -> None:
    store = ProposalStore.open(write(tmp_path / "p", a=np.array([box], dtype=np.float32)))
    if problem is None:
        store.check([{"image_id": "a.jpg"}])
    else:
        with pytest.raises(InputError, match=rf"p: image a.jpg: box 0 \[.*\] {problem}"):
            store.check([{"image_id": "a.jpg"}])


def test_check_names_the_image(tmp_path: Path) -> None:
    items = [("a.jpg", BOXES, SCORES), ("b.jpg", BOXES[:0], SCORES[:0]), ("c.jpg", BOXES, SCORES * np.nan)]
    write_store(tmp_path / "p", items, "m", {}, "d")
    store = ProposalStore.open(tmp_path / "p")
    store.check(RECORDS[:1])
    for name, problem in (("b", "has not one box"), ("c", "has the score nan"), ("d", "no proposals for image d")):
        with pytest.raises(InputError, match=problem) as error:
            store.check([{"image_id": f"{name}.jpg", "width": 40, "height": 30}])
        assert f"{name}.jpg" in str(error.value)


def test_check_is_right_over_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlickd.data.proposals.store._CHECKED_AT_ONCE", 4)
    records = [{"image_id": index, "width": 40, "height": 30} for index in range(30)]
    items = {index: BOXES[: 1 + index % 3] for index in range(30)}
    write_store(tmp_path / "good", [(i, b, np.ones(len(b))) for i, b in items.items()], "m", {}, "d")
    ProposalStore.open(tmp_path / "good").check(records)
    for bad in (0, 17, 29):
        boxes = {**items, bad: items[bad] - 1}
        write_store(tmp_path / "bad", [(i, b, np.ones(len(b))) for i, b in boxes.items()], "m", {}, "d")
        with pytest.raises(InputError, match=rf"image {bad}: box 0 \[-1, -1, "):
            ProposalStore.open(tmp_path / "bad").check(records)


def test_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    expected = tmp_path / "proposals" / "animals_train_edge_boxes.proposals"
    assert proposals_path("animals_train", "edge_boxes") == expected
