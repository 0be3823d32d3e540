from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from mlickd.config import default_config
from mlickd.data import proposals_path, write_store
from mlickd.data.catalog import dataset_records
from mlickd.errors import run_tool

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
    write_run(folder / "without", "cls.yaml")
    write_run(folder / "with" / "prediction", "kd.yaml", "student.pth")
    write_run(folder / "other", "cls.yaml", num_classes=3)
    report = folder / "without" / "inference" / "tiny_test" / "multilabel_results.json"
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


def test_gallery_of_teacher_and_both_students(visualize, runs: Path, tmp_path: Path, capsys):
    output = tmp_path / "gallery"
    students = ["--without", runs / "without", "--with", runs / "with" / "prediction"]
    arguments = ["--dataset", "tiny_test", "--teacher", runs / "teacher", *students, "--num-images", 3]
    visualize(*arguments, "--output", output)
    assert str(output / "index.html") in capsys.readouterr().out
    page = (output / "index.html").read_text()
    assert page.count("<article") == 3
    assert "Without distillation: mAP <b>12.3</b>" in page and "With distillation: mAP" not in page
    photos, figures = sorted((output / "photos").iterdir()), sorted((output / "figures").iterdir())
    assert len(photos) == len(figures) == 3
    with Image.open(figures[0]) as figure:
        assert figure.width > 1200

    visualize(*arguments, "--output", tmp_path / "again")
    assert (tmp_path / "again" / "index.html").read_text() == page
    for path in [*photos, *figures]:
        assert (tmp_path / "again" / path.relative_to(output)).read_bytes() == path.read_bytes()

    visualize(*arguments, "--output", tmp_path / "other", "--seed", 1)
    assert {path.name for path in (tmp_path / "other" / "photos").iterdir()} != {path.name for path in photos}


def test_one_student_and_chosen_images(visualize, runs: Path, tmp_path: Path):
    ids = [record["image_id"] for record in dataset_records("tiny_test")][4:6]
    visualize("--dataset", "tiny_test", "--with", runs / "with" / "prediction", "--output", tmp_path, "--images", *ids)
    page = (tmp_path / "index.html").read_text()
    assert all(image_id in page for image_id in ids) and page.count("<article") == 2
    assert "Without distillation" not in page and "teacher" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "at least one of --teacher, --without and --with"),
        (["--without", "no/such/folder"], "no/such/folder"),
        (["--without", "without", "--images", "none.jpg"], "--images none.jpg: data set tiny_test has no such image"),
        (["--without", "without", "--num-images", "0"], "--num-images 0"),
        (["--without", "without", "--dataset", "nothing_test"], "unknown data set 'nothing_test'"),
        (["--teacher", "without"], "a MultiLabelClassifier finds no regions"),
        (["--without", "other"], "the model has 3 classes, data set tiny_test has 20"),
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
    models = ["--teacher", runs / "teacher", "--without", runs / "without"]
    visualize("--dataset", "tiny_test", *models, "--photos", photos, "--output", tmp_path / "gallery")
    page = (tmp_path / "gallery" / "index.html").read_text()
    assert page.count("<article") == 2 and "my photo.jpg" in page and "sub/b.jpg" in page
    assert not any(text in page for text in ("mAP", "True labels", 'class="filters"'))
    assert len(list((tmp_path / "gallery" / "figures").iterdir())) == 2
    with pytest.raises(SystemExit):
        again = [photos, photos / "my photo.jpg"]
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
    assert (tmp_path / "index.html").read_text().count("<article") == 2
