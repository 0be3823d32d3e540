"""Plots of finished runs, from the files of training and evaluation."""

import base64
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from helpers.quick_tools import write_random_results
from mlickd.data.catalog import class_names
from mlickd.visualization.image_results import ImageResult
from mlickd.visualization.run_plots import write_run_plots


@pytest.fixture(scope="module")
def evaluated(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write runs with metrics, and with scores and reports of the real evaluator."""
    root = tmp_path_factory.mktemp("runs")
    lines = "".join(f'{{"iteration": {number}, "total_loss": {3.0 - number / 40}}}\n' for number in (19, 39))
    for name, skill in (("teacher", 0.8), ("baseline", 0.3), ("distilled/prediction", 1.0)):
        write_random_results(root / name, "tiny_test", skill)
        (root / name / "metrics.json").write_text(lines)
    (root / "distilled/feature").mkdir()
    (root / "distilled/feature/metrics.json").write_text(lines)
    return root


@pytest.fixture
def folders(evaluated: Path, tmp_path: Path) -> dict[str, Path]:
    """Return copies of the runs, which a test may change, by role."""
    root = shutil.copytree(evaluated, tmp_path / "runs")
    return {"teacher": root / "teacher", "baseline": root / "baseline", "distilled": root / "distilled/prediction"}


def write(output: Path, folders: dict[str, Path], regions: bool = False) -> tuple[str, set[str]]:
    """Write the plots, and return the page and the names of the files."""
    instances = Instances((50, 50))
    instances.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, 9.0, 9.0], [5.0, 5.0, 20.0, 20.0]]))
    instances.scores, instances.pred_classes = torch.tensor([0.7, 0.05]), torch.tensor([2, 3])
    results = [ImageResult("1", "", (), regions=instances)] if regions else []
    thresholds = {"baseline": 0.5, "distilled": 0.5}
    write_run_plots(output, "tiny_test", folders, class_names("tiny_test"), thresholds, results)
    return (output / "plots.html").read_text(encoding="utf-8"), {path.stem for path in (output / "plots").iterdir()}


def test_one_page_has_all_plots(folders: dict[str, Path], tmp_path: Path):
    page, names = write(tmp_path / "out", folders, regions=True)
    assert names == {"classes", "co_occurrence", "curves", "precision_recall", "regions"}
    files = sorted((tmp_path / "out" / "plots").iterdir())
    images = {base64.b64decode(found) for found in re.findall(r"data:image/png;base64,([^\"]+)", page)}
    assert images == {path.read_bytes() for path in files}
    for path in files:
        with Image.open(path) as image:
            assert min(image.size) > 300 and np.asarray(image.convert("L")).std() > 5
    assert re.search(r"<p>mAP [\d.]+ of the baseline, 100.0 of the distilled student", page)
    assert "Not drawn" not in page and "http:" not in page and "https:" not in page
    _, names = write(tmp_path / "teacher", {"teacher": folders["teacher"]}, regions=True)
    assert names == {"precision_recall", "regions"}


def test_a_plot_without_data_is_left_out_with_the_reason(folders: dict[str, Path], tmp_path: Path, caplog):
    (folders["baseline"] / "metrics.json").unlink()
    report = folders["distilled"] / "inference/tiny_test/multilabel_results.json"
    report.write_text(report.read_text().replace('"protocol": {', '"protocol": {"another": 1, '))
    page, names = write(tmp_path / "out", folders)
    assert names == {"precision_recall", "co_occurrence"}
    missing = re.findall(r"<li>(.*?)</li>", page)
    assert len(missing) == 2 and "metrics.json" in missing[0] and str(report) in missing[1]
    assert caplog.text.count("Not drawn") == 2


def test_a_run_that_was_not_evaluated_is_named_once(folders: dict[str, Path], tmp_path: Path, caplog):
    shutil.move(folders["baseline"] / "inference", tmp_path / "inference")
    _, names = write(tmp_path / "out", folders)
    assert names == {"curves", "precision_recall", "co_occurrence"}, "of the other runs"
    (record,) = caplog.records
    assert f"{folders['baseline']}/config.yaml --eval-only DATASETS.TEST \"('tiny_test',)\"" in record.getMessage()
    shutil.move(tmp_path / "inference", folders["baseline"] / "evaluation/inference")
    assert "classes" in write(tmp_path / "evaluated", folders)[1]


@pytest.mark.parametrize(
    ("change", "roles", "reason"),
    [
        (lambda targets: 1 - targets, ["teacher"], "image_scores.npz: other images or labels"),
        (np.zeros_like, ["teacher", "distilled"], "tiny_test: no image has a label"),
    ],
)
def test_scores_must_have_the_same_labeled_images(folders: dict, tmp_path: Path, change, roles: list, reason: str):
    del folders["baseline"]
    for role in roles:
        path = folders[role] / "inference/tiny_test/image_scores.npz"
        with np.load(path) as arrays:
            content = dict(arrays)
        np.savez(path, **content | {"targets": change(content["targets"])})
    page, names = write(tmp_path / "out", folders)
    assert reason in page and "precision_recall" not in names
