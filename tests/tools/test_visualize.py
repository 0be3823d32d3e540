"""Galleries of untrained runs through the command line."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.browser import page_data
from helpers.untrained_run import write_run_thresholds, write_untrained_run, write_untrained_teacher
from mlickd.data.catalog import class_names, dataset_records

TUNED = np.linspace(0.1, 0.9, 20).round(2).tolist()
DISTILLED = "MODEL.META_ARCHITECTURE", "DistilledClassifier"


@pytest.fixture(scope="module")
def runs(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_untrained_teacher(folder / "teacher")
    write_untrained_run(folder / "baseline", 1)
    for stage in ("feature", "prediction"):
        write_untrained_run(folder / "distilled" / stage, 2, "Base-Classifier", *DISTILLED, "KD.STAGE", stage)
    (write_untrained_run(folder / "other") / "classes.txt").write_text("\n".join(f"class {n}" for n in range(20)))
    report = folder / "baseline" / "inference" / "tiny_test" / "multilabel_results.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"metrics": {"mAP": 12.34}, "per_class": {"cat": {"AP": 12.34}}}))
    write_run_thresholds(folder / "baseline", class_names("tiny_test"), TUNED)
    return folder


@pytest.fixture
def visualize(runs: Path, call_tool, monkeypatch: pytest.MonkeyPatch) -> partial:
    """Call the tool in the folder of the runs."""
    monkeypatch.chdir(runs)
    return partial(call_tool, "visualize")


def test_gallery_of_teacher_and_both_students(visualize, tmp_path: Path):
    runs = ["--teacher", "teacher", "--baseline", "baseline", "--distilled", "distilled/prediction"]
    arguments = ["--dataset", "tiny_test", *runs, "--num-images", 3]
    output = tmp_path / "gallery"
    result = visualize(*arguments, "--output", output, "--figures", "--activation-maps")
    assert result.status == 0, result.err
    assert str(output / "index.html") in result.out and str(output / "plots.html") in result.out
    page = (output / "index.html").read_text()
    assert "Baseline: mAP <b>12.3</b>" in page and "Distilled: mAP" not in page
    data = page_data(output / "index.html")
    assert data["thresholds"] == [TUNED, [0.4] * 20], "tuned, and TEST.THRESHOLD"
    assert len(data["photos"]) == 3
    for photo in data["photos"]:
        assert photo["regions"] and all(photo["maps"]) and len(photo["results"]) == 2
    figures = sorted((output / "figures").iterdir())
    assert len(figures) == 3
    with Image.open(figures[0]) as figure:
        assert figure.width > 1200

    visualize(*arguments, "--output", output, "--figures").assert_ends_in_one_line(f"{output / 'figures'}: exists")
    assert visualize(*arguments, "--output", output, "--activation-maps").status == 0
    assert (output / "index.html").read_text() == page
    assert sorted((output / "figures").iterdir()) == figures

    visualize(*arguments, "--output", tmp_path / "other", "--seed", 1, "--threshold", 0.25)
    other = page_data(tmp_path / "other" / "index.html")
    assert {photo["id"] for photo in other["photos"]} != {photo["id"] for photo in data["photos"]}
    assert other["thresholds"] == [[0.25] * 20] * 2 and not any(map(any, (p["maps"] for p in other["photos"])))
    assert not (tmp_path / "other" / "figures").exists()


def test_chosen_images_and_photos_outside_of_datasets(visualize, tmp_path: Path):
    output = tmp_path / "gallery"
    ids = [record["image_id"] for record in dataset_records("tiny_test")][4:6]
    distilled = ["--distilled", "distilled/prediction", "--output", output]
    assert visualize("--dataset", "tiny_test", *distilled, "--images", *ids).status == 0
    data = page_data(output / "index.html")
    assert [photo["id"] for photo in data["photos"]] == ids and {photo["regions"] for photo in data["photos"]} == {None}
    assert data["students"] == ["Distilled"] and list(data["outcomes"]) == ["right", "wrong"]
    for name in ("mine.png", "curves.png"):
        (output / "plots").mkdir(exist_ok=True)
        (output / "plots" / name).touch()

    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    for name, record in zip(("my photo.jpg", "sub/b.jpg"), dataset_records("tiny_test"), strict=False):
        (photos / name).write_bytes(Path(record["file_name"]).read_bytes())
    (photos / "sub/phone.heic").touch()
    assert visualize(*distilled, "--photos", photos / "*.jpg", photos / "sub", "--figures").status == 1
    data = page_data(output / "index.html")
    assert data["classes"] == class_names("tiny_test") and data["outcomes"] == {}
    assert [photo["id"] for photo in data["photos"]] == ["my photo.jpg", "b.jpg"]
    assert all(photo["labels"] is None for photo in data["photos"]) and "mAP" not in (output / "index.html").read_text()
    files = {path.name for path in output.rglob("*") if path.is_file()}
    figures = {"0001-my photo.png", "0002-b.png"}
    assert files == {"index.html", "mine.png", *figures}, "plots of other runs are removed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--teacher, --baseline and --distilled"),
        (["--baseline", "baseline", "--images", "none.jpg"], "--images none.jpg"),
        (["--baseline", "baseline", "--threshold", "50"], "--threshold 50"),
        (["--teacher", "baseline"], "--teacher baseline"),
        (["--distilled", "baseline"], "--distilled baseline: is a baseline run"),
        (["--baseline", "distilled/prediction"], "--baseline distilled/prediction: is a distilled run"),
        (["--teacher", "teacher", "--activation-maps"], "--activation-maps requires"),
        (["--baseline", "baseline", "--photos", "x", "--num-images", "3"], "not allowed with"),
        (["--baseline", "teacher"], "--baseline teacher"),
        (["--distilled", "distilled/feature"], "distilled/feature: is stage 1"),
        (["--baseline", "other"], "--baseline other"),
    ],
)
def test_bad_input_is_one_line(visualize, tmp_path: Path, arguments: list[str], message: str):
    result = visualize("--dataset", "tiny_test", "--output", tmp_path / "gallery", *arguments)
    result.assert_ends_in_one_line(message)
    assert not (tmp_path / "gallery").exists()
