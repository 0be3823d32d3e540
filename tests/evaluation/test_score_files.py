"""Files of scores are read as they were written, or refused."""

from pathlib import Path

import numpy as np
import pytest

from mlickd.data import class_names, dataset_records
from mlickd.data.records import label_targets, labels_digest
from mlickd.errors import InputError
from mlickd.evaluation.score_files import read_scores, scores_path, write_scores

ARRAYS = {
    "image_ids": np.array(["a", "b", "ç"]),
    "scores": np.array([[0.5, 0.25], [0.0, 1.0], [0.1, 0.2]], dtype=np.float32),
    "targets": np.array([[1, 0], [0, -1], [0, 1]], dtype=np.int8),
    "class_names": np.array(["cat", "dög"]),
}


def write(folder: Path, **changes) -> str:
    np.savez(folder / "image_scores.npz", **{k: v for k, v in (ARRAYS | changes).items() if v is not None})
    return str(folder / "image_scores.npz")


def test_scores_are_read_as_written(tiny_scenes: Path, tmp_path: Path):
    records, names = dataset_records("tiny_test", boxes=False), class_names("tiny_test")
    targets, ids = label_targets(records, len(names)), [record["image_id"] for record in records]
    scores = np.random.default_rng(0).random(targets.shape, dtype=np.float32)
    path = str(tmp_path / "new" / "scores.npz")
    write_scores(path, ids[::-1], scores, targets[::-1], names)
    read = read_scores(path)
    assert (read.image_ids, read.class_names, read.path) == (ids[::-1], names, path)
    assert (read.scores.dtype, read.targets.dtype) == (np.float32, np.int8)
    assert np.array_equal(read.scores, scores) and np.array_equal(read.targets, targets[::-1])
    assert read.data_digest() == labels_digest(records, names)


def test_scores_are_aligned_with_the_images_of_others(tmp_path: Path):
    first, order = read_scores(write(tmp_path)), [2, 0, 1]
    changes = {name: ARRAYS[name][order] for name in ("image_ids", "scores", "targets")}
    again = read_scores(write(tmp_path, **changes)).align_with(first)
    assert again.image_ids == first.image_ids and np.array_equal(again.scores, first.scores)
    changes = {"image_ids": np.array(["a", "b", "d"]), "targets": np.abs(ARRAYS["targets"])}
    for name, array in (changes | {"class_names": np.array(["x", "y"])}).items():
        assert read_scores(write(tmp_path, **{name: array})).align_with(first) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"targets": None},
        {"scores": ARRAYS["scores"] * 3},
        {"image_ids": np.array(["a", "b"])},
        {"image_ids": np.array(["a", "b", "a"])},
        {"image_ids": np.array(["a", "b", None])},  # a pickle
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changes: dict):
    with pytest.raises(InputError, match=r"image_scores\.npz: "):
        read_scores(write(tmp_path, **changes))


def test_the_scores_of_a_run_are_found_by_dataset(tmp_path: Path):
    with pytest.raises(InputError, match=f"^{tmp_path}: "):
        scores_path(str(tmp_path))
    with pytest.raises(InputError, match=r"gone\.npz: "):
        read_scores(str(tmp_path / "gone.npz"))
    for name in ("pets_val", "pets_test"):
        (tmp_path / "inference" / name).mkdir(parents=True)
        write(tmp_path / "inference" / name)
    assert scores_path(str(tmp_path), "pets_val").endswith("inference/pets_val/image_scores.npz")
    for dataset in (None, "unfinished"):
        with pytest.raises(InputError, match="pets_test, pets_val.*--dataset"):
            scores_path(str(tmp_path), dataset)
    (tmp_path / "inference" / "pets_val" / "image_scores.npz").unlink()
    found = scores_path(str(tmp_path))
    assert found.endswith("pets_test/image_scores.npz") and scores_path(found) == found
    for name in ("pets_new", "pets_test"):  # from --eval-only
        (tmp_path / "evaluation/inference" / name).mkdir(parents=True)
        write(tmp_path / "evaluation/inference" / name)
    assert scores_path(str(tmp_path), "pets_new").endswith("evaluation/inference/pets_new/image_scores.npz")
    report = tmp_path / "evaluation/inference/pets_new/multilabel_results.json"
    report.write_text('{"checkpoint": {"sha256": "of another checkpoint"}}')
    with pytest.raises(InputError, match="has scores of pets_test;"):
        scores_path(str(tmp_path), "pets_new")
