"""Thresholds of the classes of a finished run, and an evaluation that uses them."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from helpers.untrained_run import split_tiny_scenes, write_untrained_run
from mlickd.data import class_names, dataset_records
from mlickd.data.proposals.dataset_proposals import generate_proposals
from mlickd.evaluation.score_files import read_scores
from mlickd.thresholds import best_f1_thresholds, read_thresholds


@pytest.fixture
def root(tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write `tiny_fit`, `tiny_val` and `tiny_test`, which have different images, and return their root."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    return split_tiny_scenes(tiny_scenes, tmp_path / "datasets")


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    return write_untrained_run(tmp_path / "run", 0, "Base-Classifier", "DATASETS.TEST", ("tiny_test", "tiny_val"))


@pytest.fixture
def tune(run: Path, call_tool) -> partial:
    return partial(call_tool, "tune_thresholds", "--run", run, "--dataset")


def test_thresholds_have_the_best_f1_on_the_held_out_images(run: Path, tune) -> None:
    result = tune("tiny_val")
    assert result.status == 0, result.err
    tuned = read_thresholds(str(run / "thresholds.json"))
    scores = read_scores(str(run / "evaluation" / "inference" / "tiny_val" / "image_scores.npz"))
    expected, f1 = best_f1_thresholds(scores.scores, scores.targets, 0.4)
    tuned.check("thresholds.json", class_names("tiny_val"), str(run / "model_final.pth"))
    assert tuned.thresholds == expected.tolist()
    assert [np.nan if value is None else value for value in tuned.f1] == pytest.approx(f1.tolist(), nan_ok=True)
    assert (tuned.dataset, tuned.images, tuned.data_sha256) == ("tiny_val", 16, scores.data_digest())
    assert (tuned.checkpoint, tuned.default_threshold) == ("model_final.pth", 0.4)
    assert f"{tuned.thresholds[0]:.3f}" in result.out and "tuned on tiny_val (16 images)" in result.out


def test_images_of_the_run_are_refused_or_warned_about(run: Path, root: Path, tune, call_tool, caplog) -> None:
    tune("tiny_test").assert_ends_in_one_line("12 of its 12 images are in DATASETS.TEST")
    row = (root / "tiny" / "labels_test.csv").read_text().splitlines()[1]
    with open(root / "tiny" / "labels_val.csv", "a") as file:
        file.write(f"{row}\n")
    tune("tiny_val").assert_ends_in_one_line("1 of its 17 images are in DATASETS.TEST")
    stage_1 = (run / "config.yaml").read_text().replace("STAGE: ''", "STAGE: feature")
    (run.parent / "feature").mkdir()
    (run.parent / "feature" / "config.yaml").write_text(stage_1)
    call_tool("tune_thresholds", "--run", run.parent / "feature", "--dataset", "tiny_val").assert_ends_in_one_line(
        "stage 1"
    )
    assert not (run / "thresholds.json").exists()
    with caplog.at_level(logging.WARNING, logger="mlickd"):
        assert tune("tiny_train").status == 0
    assert "8 of the 24 images of tiny_train" in caplog.text


def test_a_teacher_reads_the_proposals_of_its_run(root: Path, tmp_path: Path, call_tool) -> None:
    stores = [str(tmp_path / "no test"), str(tmp_path / "held out")]
    generate_proposals(dataset_records("tiny_val"), "sliding", None, stores[1])
    data = ["DATASETS.TEST", ("tiny_test", "tiny_val"), "DATASETS.PROPOSALS.TEST_FILES", stores]
    run = write_untrained_run(tmp_path / "run", 0, "Base-WSD", "MODEL.BACKBONE.WEIGHTS", "", *data)
    assert call_tool("tune_thresholds", "--run", run, "--dataset", "tiny_val").status == 0


def test_a_missing_dataset_of_the_run_is_named(root: Path, tune, caplog) -> None:
    (root / "tiny" / "labels_fit.csv").unlink()
    with caplog.at_level(logging.WARNING, logger="mlickd"):
        assert tune("tiny_val").status == 0
    assert "tiny_fit" in caplog.text
