from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlickd.data import class_names, dataset_records
from mlickd.data.manifest import make_manifest
from mlickd.data.records import label_targets
from mlickd.errors import InputError
from mlickd.evaluation.score_files import find_scores, read_scores, write_scores

ARRAYS = {
    "image_ids": np.array(["a", "b", "ç"]),
    "scores": np.array([[0.5, 0.25], [0.0, 1.0], [0.1, 0.2]], dtype=np.float32),
    "targets": np.array([[1, 0], [0, -1], [0, 1]], dtype=np.int8),
}


def write(folder: Path, **changes) -> str:
    arrays = {name: value for name, value in (ARRAYS | changes).items() if value is not None}
    np.savez(folder / "image_scores.npz", **arrays)
    return str(folder / "image_scores.npz")


def test_what_is_written_is_read(tmp_path: Path):
    path = str(tmp_path / "scores.npz")
    write_scores(path, ["a", "b", "ç"], ARRAYS["scores"], ARRAYS["targets"], ["cat", "dög"])
    read = read_scores(path)
    assert (read.image_ids, read.class_names, read.path) == (["a", "b", "ç"], ["cat", "dög"], path)
    np.testing.assert_array_equal(read.scores, ARRAYS["scores"])
    np.testing.assert_array_equal(read.targets, ARRAYS["targets"])
    assert (read.scores.dtype, read.targets.dtype) == (np.float32, np.int8)


def test_class_names_may_be_missing(tmp_path: Path):
    read = read_scores(write(tmp_path))
    assert read.class_names is None and read.data_digest() is None


def test_the_digest_is_that_of_the_data_set(tiny_scenes: Path, tmp_path: Path):
    records, names = dataset_records("tiny_test", boxes=False), class_names("tiny_test")
    targets = label_targets(records, len(names))
    ids = [record["image_id"] for record in records]
    path = str(tmp_path / "scores.npz")
    write_scores(path, ids[::-1], np.zeros(targets.shape, np.float32), targets[::-1], names)
    assert read_scores(path).data_digest() == make_manifest("tiny_test", records, names).digest()


def test_images_in_the_order_of_others(tmp_path: Path):
    first = read_scores(write(tmp_path))
    order = [2, 0, 1]
    other = read_scores(write(tmp_path, **{name: array[order] for name, array in ARRAYS.items()}))
    again = other.as_images_of(first)
    assert again.image_ids == first.image_ids
    np.testing.assert_array_equal(again.scores, first.scores)
    for change in ({"image_ids": np.array(["a", "b", "d"])}, {"targets": np.abs(ARRAYS["targets"])}):
        assert read_scores(write(tmp_path, **change)).as_images_of(first) is None
    named, otherwise = (read_scores(write(tmp_path, class_names=np.array(n))) for n in (["x", "y"], ["y", "x"]))
    assert named.as_images_of(otherwise) is None and named.as_images_of(first) is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": None}, "has no array 'targets'"),
        ({"scores": ARRAYS["scores"] * 3}, "scores must be probabilities.*got 1.5 at image 0"),
        ({"scores": ARRAYS["scores"][:2]}, "shape"),
        ({"image_ids": np.array(["a", "b"])}, "2 image ids"),
        ({"class_names": np.array(["cat"])}, "1 class names"),
        ({"image_ids": np.array(["a", "b", "a"])}, "image 'a' is there 2 times"),
        ({"image_ids": np.array(["a", "b", None])}, "allow_pickle=False"),
    ],
)
def test_a_file_that_does_not_do_is_refused(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(InputError, match=rf"image_scores.npz: .*{message}"):
        read_scores(write(tmp_path, **changes))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_another_file_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "scores.npz").write_bytes(content)
    with pytest.raises(InputError, match="scores.npz"):
        read_scores(str(tmp_path / "scores.npz"))
    np.save(tmp_path / "array.npy", ARRAYS["scores"])
    with pytest.raises(InputError, match="array.npy"):
        read_scores(str(tmp_path / "array.npy"))


def test_the_scores_of_a_run(tmp_path: Path):
    with pytest.raises(InputError, match="neither a file of scores nor the folder of a run"):
        find_scores(str(tmp_path))
    for name in ("pets_val", "pets_test"):
        (tmp_path / "inference" / name).mkdir(parents=True)
        write(tmp_path / "inference" / name)
    (tmp_path / "inference" / "unfinished").mkdir()
    assert find_scores(str(tmp_path), "pets_val").endswith("inference/pets_val/image_scores.npz")
    with pytest.raises(InputError, match="scores of pets_test, pets_val; choose one with --dataset"):
        find_scores(str(tmp_path))
    with pytest.raises(InputError, match="no scores of --dataset unfinished"):
        find_scores(str(tmp_path), "unfinished")
    (tmp_path / "inference" / "pets_val" / "image_scores.npz").unlink()
    found = find_scores(str(tmp_path))
    assert found.endswith("pets_test/image_scores.npz") and find_scores(found) == found
