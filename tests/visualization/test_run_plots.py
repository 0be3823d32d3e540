"""The plots of finished runs, from what evaluation and training leave."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from mlickd.data.catalog import class_names, dataset_records
from mlickd.data.records import label_targets
from mlickd.evaluation import MultiLabelEvaluator
from mlickd.visualization.label_plots import draw_label_frequencies, draw_region_counts
from mlickd.visualization.results import ImageResult
from mlickd.visualization.run_plots import remove_run_plots, stage_folders, write_run_plots


def write_metrics(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"iteration": number, "total_loss": 3.0 - number / 40} for number in (19, 39)]
    (folder / "metrics.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def write_evaluation(folder: Path, skill: float) -> None:
    """Scores and report of the real evaluator; with skill 1 the scores are the labels."""
    records = dataset_records("tiny_test")
    targets = label_targets(records, len(class_names("tiny_test")))
    noise = np.random.default_rng(0).random(targets.shape)
    scores = torch.tensor(skill * (targets == 1) + (1 - skill) * noise, dtype=torch.float32)
    evaluator = MultiLabelEvaluator("tiny_test", output_dir=str(folder / "inference" / "tiny_test"))
    evaluator.process(records, [{"image_scores": of_image} for of_image in scores])
    evaluator.evaluate()


@pytest.fixture
def folders(tiny_scenes: Path, tmp_path: Path) -> dict[str, Path]:
    runs = {"teacher": tmp_path / "teacher", "baseline": tmp_path / "baseline"}
    runs["distilled"] = tmp_path / "distilled" / "prediction"
    for folder, skill in zip(runs.values(), (0.8, 0.3, 1.0), strict=True):
        write_metrics(folder)
        write_evaluation(folder, skill)
    write_metrics(tmp_path / "distilled" / "feature")
    return runs


def results_with_regions() -> list[ImageResult]:
    instances = Instances((50, 50))
    instances.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, 9.0, 9.0], [5.0, 5.0, 20.0, 20.0]]))
    instances.scores, instances.pred_classes = torch.tensor([0.7, 0.05]), torch.tensor([2, 3])
    return [ImageResult("1", "", (), regions=instances)]


def write(output: Path, folders: dict[str, Path], **options) -> str:
    thresholds = {"baseline": 0.5, "distilled": 0.5}
    names = class_names("tiny_test")
    page = write_run_plots(output, "tiny_test", folders, class_names=names, thresholds=thresholds, **options)
    return page.read_text(encoding="utf-8")


def test_one_page_has_all_plots(folders: dict[str, Path], tmp_path: Path):
    page = write(tmp_path / "out", folders, results=results_with_regions())
    names = ["classes", "co_occurrence", "curves", "precision_recall", "regions"]
    files = sorted((tmp_path / "out" / "plots").iterdir())
    assert [path.name for path in files] == [f"{name}.png" for name in names]
    pictures = {base64.b64decode(found) for found in re.findall(r"data:image/png;base64,([^\"]+)", page)}
    assert pictures == {path.read_bytes() for path in files}
    for path in files:
        with Image.open(path) as picture:
            assert min(picture.size) > 300 and np.asarray(picture.convert("L")).std() > 5
    notes = re.findall(r"<p>(Predicted .*?)</p>", page)
    assert "differ from those of the true labels by 0.0 points on average, correlation 1.00" in notes[1]
    assert float(re.search(r"by ([\d.]+) points", notes[0])[1]) > 0, "the baseline has noise in its scores"
    assert "Not drawn" not in page and "http" not in page


def test_what_is_missing_is_said_and_the_rest_is_drawn(folders: dict[str, Path], tmp_path: Path, caplog):
    (folders["baseline"] / "metrics.json").unlink()
    (folders["distilled"] / "inference" / "tiny_test" / "multilabel_results.json").unlink()
    page = write(tmp_path / "out", folders)
    assert {path.stem for path in (tmp_path / "out" / "plots").iterdir()} == {"precision_recall", "co_occurrence"}
    missing = re.findall(r"<li>(.*?)</li>", page)
    assert len(missing) == 2 and "metrics.json: no such file" in missing[0] and "evaluate the run" in missing[1]
    assert caplog.text.count("Not drawn") == 2


def test_curves_are_of_the_same_images(folders: dict[str, Path], tmp_path: Path):
    path = folders["teacher"] / "inference" / "tiny_test" / "image_scores.npz"
    with np.load(path) as arrays:
        content = dict(arrays)
    content["targets"] = 1 - content["targets"]
    np.savez(path, **content)
    page = write(tmp_path / "out", folders)
    (missing,) = re.findall(r"<li>(.*?)</li>", page)
    assert missing.startswith("Precision and recall: ") and "other images or labels than" in missing


def test_images_without_any_label_have_no_curve(folders: dict[str, Path], tmp_path: Path):
    for folder in folders.values():
        path = folder / "inference" / "tiny_test" / "image_scores.npz"
        with np.load(path) as arrays:
            content = dict(arrays)
        np.savez(path, **content | {"targets": np.zeros_like(content["targets"])})
    page = write(tmp_path / "out", folders)
    assert "Precision and recall: tiny_test: no image has a label, so there is nothing to find" in page


def test_plots_of_earlier_runs_do_not_stay(folders: dict[str, Path], tmp_path: Path):
    write(tmp_path / "out", folders, results=results_with_regions())
    (tmp_path / "out" / "plots" / "mine.png").touch()
    remove_run_plots(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["mine.png"]
    remove_run_plots(tmp_path / "nowhere")


def test_one_run_alone(folders: dict[str, Path], tmp_path: Path):
    write(tmp_path / "one", {"baseline": folders["baseline"]})
    assert {path.stem for path in (tmp_path / "one" / "plots").iterdir()} == {
        "curves",
        "precision_recall",
        "co_occurrence",
    }
    write(tmp_path / "teacher-plots", {"teacher": folders["teacher"]}, results=results_with_regions())
    assert {path.stem for path in (tmp_path / "teacher-plots" / "plots").iterdir()} == {"precision_recall", "regions"}


def test_stage_1_comes_before_stage_2(folders: dict[str, Path]):
    with_feature = folders["distilled"]
    assert stage_folders(with_feature) == [with_feature.parent / "feature", with_feature]
    assert stage_folders(folders["baseline"]) == [folders["baseline"]]
    (with_feature.parent / "feature" / "metrics.json").unlink()
    assert stage_folders(with_feature) == [with_feature]


def test_bars_of_regions_grow_with_their_number(tmp_path: Path):
    lengths = []
    for number in (1, 3):
        # The axis ends at the longest bar: one class of always four regions keeps it.
        scores, classes = np.full(4 + number, 0.5), np.array([0] * 4 + [1] * number)
        draw_region_counts(scores, classes, 2, ["$x^2$", "dog"], tmp_path / f"{number}.png")
        pixels = np.asarray(Image.open(tmp_path / f"{number}.png").convert("RGB")).astype(int)
        dark = (np.abs(pixels - [0x0B, 0x4D, 0x26]).sum(axis=2) < 12).sum(axis=1)
        lengths.append(np.unique(dark[dark > 60]))
    assert len(lengths[0]) >= 2 and len(lengths[1]) >= 2
    assert lengths[0].max() == pytest.approx(lengths[1].max(), rel=0.02)
    assert lengths[1].min() == pytest.approx(3 * lengths[0].min(), rel=0.1)


def test_frequencies_without_any_pair_are_drawn(tmp_path: Path):
    draw_label_frequencies({"a": np.full((2, 2), np.nan)}, ["x", "$y"], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="no panel"):
        draw_label_frequencies({}, ["x"], tmp_path / "b.png")
