from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from mlickd.config import default_config
from mlickd.data import proposals_path, write_store
from mlickd.data.catalog import class_names, dataset_records
from mlickd.errors import run_tool
from mlickd.evaluation.thresholds import ClassThresholds, write_thresholds
from mlickd.files import file_digest

ROOT = Path(__file__).parents[2]
SIZE = ["MODEL.NUM_CLASSES", 20, "INPUT.SIZE_TEST", 64, "MODEL.VGG.WIDTH", 0.125, "MODEL.DEVICE", "cpu"]


def write_run(folder: Path, config: str, checkpoint: str = "model_final.pth", num_classes: int = 20) -> None:
    """What training leaves, with random weights."""
    cfg = default_config()
    cfg.merge_from_file(str(ROOT / "configs" / "scenes" / config))
    cfg.merge_from_list([*SIZE, "MODEL.NUM_CLASSES", num_classes])
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump())
    if cfg.MODEL.META_ARCHITECTURE == "DistilledClassifier":
        cfg.MODEL.META_ARCHITECTURE = "MultiLabelClassifier"
    torch.save({"model": build_model(cfg).state_dict()}, folder / checkpoint)


@pytest.fixture(scope="module")
def runs(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "teacher", "wsd.yaml")
    write_run(folder / "baseline", "cls.yaml")
    write_run(folder / "distilled" / "prediction", "kd.yaml", "student.pth")
    write_run(folder / "other", "cls.yaml", num_classes=3)
    write_run(folder / "feature", "kd.yaml", "student.pth")
    write_run(folder / "connected", "cls.yaml")
    config = folder / "connected" / "config.yaml"
    config.write_text(config.read_text().replace("POOLING: average", "POOLING: fc"))
    config = folder / "feature" / "config.yaml"
    config.write_text(config.read_text().replace("STAGE: ''", "STAGE: feature"))
    report = folder / "baseline" / "inference" / "tiny_test" / "multilabel_results.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"metrics": {"mAP": 12.34}, "per_class": {"cat": {"AP": 12.34}}}))
    boxes = np.array([[x, y, x + 40, y + 50] for x in (0, 40, 80) for y in (0, 35, 70)], np.float32)
    items = [(record["image_id"], boxes, np.linspace(1, 0.1, 9)) for record in dataset_records("tiny_test")]
    write_store(proposals_path("tiny_test", "edge_boxes"), items, "edge_boxes", {}, "")
    return folder


@pytest.fixture
def visualize(monkeypatch: pytest.MonkeyPatch):
    """Call the tool with arguments."""
    specification = importlib.util.spec_from_file_location("visualize", ROOT / "tools" / "visualize.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)

    def call(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["visualize.py", *map(str, arguments)])
        run_tool(module.main)

    return call


def data_of(folder: Path) -> dict:
    """What the page of a gallery knows."""
    text = (folder / "index.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_gallery_of_teacher_and_both_students(visualize, runs: Path, tmp_path: Path, capsys):
    output = tmp_path / "gallery"
    students = ["--baseline", runs / "baseline", "--distilled", runs / "distilled" / "prediction"]
    arguments = ["--dataset", "tiny_test", "--teacher", runs / "teacher", *students, "--num-images", 3]
    visualize(*arguments, "--output", output, "--figures", "--activation-maps")
    printed = capsys.readouterr().out
    assert str(output / "index.html") in printed and str(output / "plots.html") in printed
    page = (output / "index.html").read_text()
    assert "Baseline: mAP <b>12.3</b>" in page and "Distilled: mAP" not in page
    data = data_of(output)
    assert len(data["photos"]) == 3 and data["thresholds"] == [[0.5] * 20] * 2
    for photo in data["photos"]:
        assert photo["regions"] and all(photo["maps"]) and len(photo["said"]) == 2
    figures = sorted((output / "figures").iterdir())
    assert len(figures) == 3
    with Image.open(figures[0]) as figure:
        assert figure.width > 1200

    visualize(*arguments, "--output", tmp_path / "again", "--figures", "--activation-maps")
    assert (tmp_path / "again" / "index.html").read_text() == page
    for path in figures:
        assert (tmp_path / "again" / "figures" / path.name).read_bytes() == path.read_bytes()

    visualize(*arguments, "--output", tmp_path / "other", "--seed", 1, "--threshold", 0.25)
    other = data_of(tmp_path / "other")
    assert {photo["id"] for photo in other["photos"]} != {photo["id"] for photo in data["photos"]}
    assert other["thresholds"] == [[0.25] * 20] * 2 and not any(map(any, (p["maps"] for p in other["photos"])))
    assert not (tmp_path / "other" / "figures").exists()


def test_one_student_and_chosen_images(visualize, runs: Path, tmp_path: Path):
    ids = [record["image_id"] for record in dataset_records("tiny_test")][4:6]
    visualize(
        "--dataset",
        "tiny_test",
        "--distilled",
        runs / "distilled" / "prediction",
        "--output",
        tmp_path,
        "--images",
        *ids,
    )
    data = data_of(tmp_path)
    assert [photo["id"] for photo in data["photos"]] == ids
    assert data["students"] == ["Distilled"] and list(data["outcomes"]) == ["right", "wrong"]
    assert all(photo["regions"] is None for photo in data["photos"])


def test_thresholds_of_each_class_are_those_beside_the_checkpoint(visualize, runs: Path, tmp_path: Path, capsys):
    names = class_names("tiny_test")
    run = runs / "baseline"
    tuned = np.linspace(0.1, 0.9, len(names)).round(2).tolist()
    digest = file_digest(run / "model_final.pth")
    held_out = ("tiny_val", 8, "0", "model_final.pth", digest)
    thresholds = ClassThresholds(names, tuned, [0.5] * 20, [1] * 20, 0.5, *held_out)
    try:
        write_thresholds(thresholds, str(run / "thresholds.json"))
        visualize("--dataset", "tiny_test", "--baseline", run, "--num-images", 1, "--output", tmp_path)
        assert data_of(tmp_path)["thresholds"] == [tuned]
        write_thresholds(replace(thresholds, checkpoint_sha256="0"), str(run / "thresholds.json"))
        with pytest.raises(SystemExit):
            visualize("--dataset", "tiny_test", "--baseline", run, "--num-images", 1, "--output", tmp_path)
        assert "was tuned for another checkpoint" in capsys.readouterr().err
    finally:
        (run / "thresholds.json").unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "at least one of --teacher, --baseline and --distilled"),
        (["--baseline", "no/such/folder"], "no/such/folder"),
        (["--baseline", "baseline", "--images", "none.jpg"], "--images none.jpg: dataset tiny_test has no such image"),
        (["--baseline", "baseline", "--num-images", "0"], "--num-images 0"),
        (["--baseline", "baseline", "--threshold", "50"], "--threshold 50: give a number from 0 to 1"),
        (["--baseline", "baseline", "--dataset", "nothing_test"], "unknown dataset 'nothing_test'"),
        (["--teacher", "baseline"], "a MultiLabelClassifier finds no regions"),
        (
            ["--baseline", "connected", "--activation-maps"],
            "connected pools by fully connected layers, which have none",
        ),
        (["--distilled", "feature"], "feature: is stage 1 of a distillation, whose classifier has seen no label yet"),
        (["--baseline", "other"], "the model has 3 classes, dataset tiny_test has 20"),
    ],
)
def test_bad_input_is_one_line(visualize, runs: Path, tmp_path: Path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(runs)
    with pytest.raises(SystemExit) as caught:
        visualize("--dataset", "tiny_test", "--output", tmp_path / "gallery", *arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "gallery").exists()


def test_help_has_an_example(visualize, capsys):
    with pytest.raises(SystemExit) as caught:
        visualize("--help")
    assert caught.value.code == 0
    assert "python tools/visualize.py --dataset scenes_test" in capsys.readouterr().out


def test_photos_of_no_data_set(visualize, runs: Path, tmp_path: Path, capsys):
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    first, second = (record["file_name"] for record in dataset_records("tiny_test")[:2])
    (photos / "my photo.jpg").write_bytes(Path(first).read_bytes())
    (photos / "sub" / "b.jpg").write_bytes(Path(second).read_bytes())
    models = ["--teacher", runs / "teacher", "--baseline", runs / "baseline"]
    visualize(*models, "--photos", photos / "*.jpg", photos / "sub", "--output", tmp_path / "gallery")
    data = data_of(tmp_path / "gallery")
    assert data["classes"] == class_names("tiny_test")
    assert [photo["id"] for photo in data["photos"]] == ["my photo.jpg", "b.jpg"]
    with pytest.raises(SystemExit):
        visualize(*models, "--output", tmp_path / "no")
    assert "--dataset is missing; name the dataset of the photos, or give --photos" in capsys.readouterr().err
    visualize("--dataset", "tiny_test", *models, "--photos", photos, "--output", tmp_path / "gallery")
    data = data_of(tmp_path / "gallery")
    assert [photo["id"] for photo in data["photos"]] == ["my photo.jpg", "sub/b.jpg"]
    assert all(photo["labels"] is None for photo in data["photos"]) and data["outcomes"] == {}
    assert "mAP" not in (tmp_path / "gallery" / "index.html").read_text()
    assert [path.name for path in (tmp_path / "gallery").iterdir()] == ["index.html"]
    with pytest.raises(SystemExit):
        other = tmp_path / "other" / "photos"
        other.mkdir(parents=True)
        (other / "my photo.jpg").write_bytes(Path(second).read_bytes())
        again = [photos, other]
        visualize("--dataset", "tiny_test", *models, "--photos", *again, "--output", tmp_path / "no")
    assert "have one name; rename one of them" in capsys.readouterr().err


@pytest.fixture
def no_proposals(runs: Path, tmp_path: Path):
    """Other tests may have made those of tiny_train: they are put away meanwhile."""
    store, away = proposals_path("tiny_train", "edge_boxes"), tmp_path / "away"
    there = store.exists()
    if there:
        store.rename(away)
    yield
    if there:
        away.rename(store)


def test_proposals_that_are_missing_are_made(visualize, runs: Path, no_proposals: None, tmp_path: Path, caplog):
    arguments = ["--teacher", runs / "teacher", "--num-images", 2, "--output", tmp_path]
    with caplog.at_level("INFO"):
        visualize("--dataset", "tiny_train", *arguments)
    assert "Proposals of edge_boxes are made now" in caplog.text
    assert len(data_of(tmp_path)["photos"]) == 2
