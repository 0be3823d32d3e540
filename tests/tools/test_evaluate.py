"""Evaluation of stored scores through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from mlickd.evaluation import multilabel_metrics
from mlickd.evaluation.score_files import read_scores, write_scores
from mlickd.studies.score_conventions import conventions
from mlickd.thresholds import ClassThresholds, best_f1_thresholds, write_thresholds

CLASSES = ["cat", "dog", "bird", "yeti"]
IDS = [f"{i}.jpg" for i in range(60)]


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Write two evaluated runs on the same images in different orders; no image has the last class."""
    generator = np.random.default_rng(0)
    targets = (generator.random((60, 4)) < [0.5, 0.3, 0.2, 0.0]).astype(np.int8)
    targets[0, 3] = -1
    folders = []
    for name, skill in (("baseline", 1.0), ("distilled/prediction", 2.5)):
        scores = 1 / (1 + np.exp(-generator.standard_normal((60, 4)) - skill * (targets == 1) + 1))
        order = generator.permutation(60)
        folder = tmp_path / name / "inference" / "pets_test"
        folder.mkdir(parents=True)
        ids = [IDS[place] for place in order]
        write_scores(str(folder / "image_scores.npz"), ids, scores[order].astype(np.float32), targets[order], CLASSES)
        folders.append(tmp_path / name)
    return folders


def stored_scores(folder: Path):
    return read_scores(str(folder / "inference" / "pets_test" / "image_scores.npz"))


def test_runs_are_compared_under_every_convention(call_tool, runs, tmp_path):
    result = call_tool("evaluate", *runs, "--topk", 2, "--threshold", 0.4, "--json", tmp_path / "report.json")
    assert result.status == 0, result.err
    for group, name in conventions(0.4, 2).values():
        assert group in result.out and name in result.out
    for text in ("distilled/prediction", "images with a label", "classes without a positive: yeti", "60 images"):
        assert text in result.out
    report = json.loads((tmp_path / "report.json").read_text())
    failed = call_tool("evaluate", *runs, "--json", tmp_path / "report.json" / "in a file")
    assert failed.status == 2 and "60 images" in failed.out
    assert list(report["runs"]) == ["baseline", "distilled/prediction"]
    for folder, entry in zip(runs, report["runs"].values(), strict=True):
        scores = stored_scores(folder)
        metrics = multilabel_metrics(scores.scores, scores.targets, threshold=0.4, topk=2, ap="voc07")
        for key, value in (("mAP/voc07", metrics["mAP"]), ("CF1", metrics["CF1"]), ("top2/OF1", metrics["top2/OF1"])):
            assert entry["values"]["all"][key] == pytest.approx(100 * value)
            assert f"{100 * value:.2f}" in result.out
        assert entry["data_sha256"] == scores.data_digest() and entry["data_sha256"] in result.out
    assert "bootstrap" not in report


def test_runs_and_their_difference_have_intervals(call_tool, runs):
    arguments = (*runs, "--bootstrap", 200, "--ap", "voc12", "--json", "-")
    bootstrap = json.loads(call_tool("evaluate", *arguments).out)["bootstrap"]
    assert (bootstrap["resamples"], bootstrap["ap"]) == (200, "voc12")
    values = {}
    for folder, (name, entry) in zip(runs, bootstrap["runs"].items(), strict=True):
        scores = stored_scores(folder)
        values[name] = 100 * multilabel_metrics(scores.scores, scores.targets, ap="voc12")["mAP"]
        assert entry["mAP"]["value"] == pytest.approx(values[name])
        assert entry["mAP"]["low"] < values[name] < entry["mAP"]["high"]
    difference = bootstrap["differences"]["distilled/prediction"]["mAP"]
    assert bootstrap["minus"] == "baseline"
    assert difference["value"] == pytest.approx(values["distilled/prediction"] - values["baseline"])
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    shown = call_tool("evaluate", *arguments[:-2]).out
    assert f"{difference['value']:+.2f} [{difference['low']:+.2f}, {difference['high']:+.2f}]" in shown


def test_runs_on_other_images_have_no_difference(call_tool, runs, tmp_path):
    scores = stored_scores(runs[0])
    write_scores(str(tmp_path / "part.npz"), scores.image_ids[:40], scores.scores[:40], scores.targets[:40], CLASSES)
    result = call_tool("evaluate", runs[0], tmp_path / "part.npz", "--bootstrap", 20)
    assert "not comparable" in result.out and "- baseline" not in result.out


def test_thresholds_of_a_run_have_separate_metrics(call_tool, runs):
    scores = stored_scores(runs[1])
    thresholds, _ = best_f1_thresholds(scores.scores, scores.targets)
    tuned = ClassThresholds(
        CLASSES, thresholds.tolist(), [None] * 4, [9] * 4, 0.5, "pets_val", 30, scores.data_digest(), "model.pth", ""
    )  # fmt: skip
    write_thresholds(tuned, str(runs[1] / "thresholds.json"))
    result = call_tool("evaluate", *runs, "--json", "-")
    values = [entry["values"]["all"] for entry in json.loads(result.out)["runs"].values()]
    expected = multilabel_metrics(scores.scores, scores.targets, threshold=thresholds)["CF1"]
    assert values[1]["class_thresholds/CF1"] == pytest.approx(100 * expected)
    assert "class_thresholds/CF1" not in values[0]
    shown = call_tool("evaluate", *runs).out
    assert "the threshold of its class" in shown
    assert "tuned on pets_val (30 images), the same images as here" in shown


def test_scores_of_another_model_are_read_from_a_file(call_tool, tmp_path):
    arrays = {"image_ids": np.array(IDS[:2]), "scores": np.eye(2), "targets": np.eye(2, dtype=int)}
    np.savez(tmp_path / "mine.npz", **arrays)
    result = call_tool("evaluate", tmp_path / "mine.npz")
    assert result.status == 0 and "100.00" in result.out and "images with a label" not in result.out
