"""Thresholds of each class for a finished run."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.untrained_run import save_random_checkpoint, split_tiny_scenes, write_untrained_run
from mlickd.data import class_names
from mlickd.engine import Trainer, complete_config, load_config, load_initial_weights
from mlickd.errors import InputError
from mlickd.evaluation import best_f1_thresholds, load_thresholds
from mlickd.evaluation.score_files import read_scores
from mlickd.studies.tuning import tune_thresholds


@pytest.fixture
def root(tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of `tiny_fit`, `tiny_val` and `tiny_test`, which share no image."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    return split_tiny_scenes(tiny_scenes, tmp_path / "datasets")


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    return write_untrained_run(tmp_path / "run")


def test_thresholds_have_the_best_f1_on_the_held_out_images(run: Path) -> None:
    tuned = tune_thresholds(str(run), "tiny_val")
    scores = read_scores(str(run / "evaluation" / "inference" / "tiny_val" / "image_scores.npz"))
    expected, f1 = best_f1_thresholds(scores.scores, scores.targets, 0.4)
    assert tuned.thresholds == expected.tolist()
    assert [np.nan if value is None else value for value in tuned.f1] == pytest.approx(f1.tolist(), nan_ok=True)
    assert (tuned.dataset, tuned.images, tuned.data_sha256) == ("tiny_val", 16, scores.data_digest())
    assert (tuned.checkpoint, tuned.default_threshold) == ("model_final.pth", 0.4)
    names = class_names("tiny_val")
    assert load_thresholds(str(run), names).tolist() == expected.tolist()


def test_scores_that_are_there_are_taken_unless_they_are_of_another_model(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = tune_thresholds(str(run), "tiny_val")
    report = run / "evaluation" / "inference" / "tiny_val" / "multilabel_results.json"
    written = report.stat().st_mtime_ns
    with caplog.at_level(logging.INFO, logger="mlickd"):
        assert tune_thresholds(str(run), "tiny_val") == first
    assert report.stat().st_mtime_ns == written and "Taking the scores that are in" in caplog.text
    save_random_checkpoint(run, seed=1)
    again = tune_thresholds(str(run), "tiny_val")
    assert again.checkpoint_sha256 != first.checkpoint_sha256 and again.thresholds != first.thresholds
    report.write_text("cut sho")
    assert tune_thresholds(str(run), "tiny_val") == again


def test_test_images_are_refused(run: Path, root: Path) -> None:
    message = r"12 of its 12 images are in tiny_test, DATASETS.TEST of the run; thresholds must not be tuned on test"
    with pytest.raises(InputError, match=message):
        tune_thresholds(str(run), "tiny_test")
    rows = (root / "tiny" / "labels_test.csv").read_text().splitlines()
    with open(root / "tiny" / "labels_val.csv", "a") as file:
        file.write(f"{rows[1]}\n")
    with pytest.raises(InputError, match="1 of its 17 images are in tiny_test"):
        tune_thresholds(str(run), "tiny_val")
    assert not (run / "thresholds.json").exists()


def test_training_images_are_told_of(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mlickd"):
        tune_thresholds(str(run), "tiny_train")
    assert "8 of the 24 images of tiny_train are in tiny_fit: the model has been trained on them" in caplog.text


def test_data_of_the_run_that_is_not_here_is_told_of(run: Path, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "tiny" / "labels_fit.csv").unlink()
    with caplog.at_level(logging.WARNING, logger="mlickd"):
        tune_thresholds(str(run), "tiny_val")
    assert "tiny_fit (DATASETS.TRAIN of the run) is not here: not compared with tiny_val" in caplog.text


def test_other_classes_are_refused(run: Path, root: Path) -> None:
    shutil.copytree(root / "tiny", root / "other")
    names = (root / "other" / "classes.txt").read_text().split("\n")
    (root / "other" / "classes.txt").write_text("\n".join([names[1], names[0], *names[2:]]))
    with pytest.raises(InputError, match="--dataset other_val: has other classes than tiny_test, DATASETS.TEST"):
        tune_thresholds(str(run), "other_val")


def evaluation(run: Path, *options: object, eval_only: bool = True):
    cfg = load_config(str(run / "config.yaml"), ["OUTPUT_DIR", str(run), *map(str, options)])
    complete_config(cfg, eval_only=eval_only)
    return cfg


def test_evaluation_takes_them(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    tune_thresholds(str(run), "tiny_val")
    thresholds = ("TEST.THRESHOLDS", run / "thresholds.json")
    assert evaluation(run, *thresholds).TEST.THRESHOLDS == str(run / "thresholds.json")
    with caplog.at_level(logging.WARNING, logger="mlickd"):
        evaluation(run, *thresholds, "DATASETS.TEST", "('tiny_test', 'tiny_val')")
    assert "TEST.THRESHOLDS were tuned on the images of tiny_val" in caplog.text
    with pytest.raises(InputError, match="TEST.THRESHOLDS"):
        evaluation(run, *thresholds, eval_only=False)
    save_random_checkpoint(run, seed=1)
    with pytest.raises(InputError, match="TEST.THRESHOLDS .*was tuned for another checkpoint"):
        evaluation(run, *thresholds)
    with pytest.raises(InputError, match="nowhere.json: "):
        evaluation(run, "TEST.THRESHOLDS", "nowhere.json")


def test_the_report_names_them(run: Path) -> None:
    tuned = tune_thresholds(str(run), "tiny_val")
    cfg = evaluation(run, "TEST.THRESHOLDS", run / "thresholds.json")
    model = Trainer.build_model(cfg)
    load_initial_weights(cfg, model)
    Trainer.test(cfg, model)
    report = json.loads((run / "evaluation" / "inference" / "tiny_test" / "multilabel_results.json").read_text())
    assert report["protocol"]["threshold"] == tuned.thresholds
    assert report["protocol"]["thresholds_tuned_on"]["name"] == "tiny_val"
    assert report["data"]["name"] == "tiny_test" and report["versions"]["torch"] == torch.__version__
