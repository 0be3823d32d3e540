from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from mlickd.data import dataset_records, proposals_path, write_store
from mlickd.data.checking.loading import collect_warnings
from mlickd.data.proposals.generation import image_list_digest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder dataset `pets` of 4 training and 2 test images, with nothing wrong."""
    folder = tmp_path / "datasets" / "pets"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(cv2.resize(coarse, (120, 90))).save(folder / "images" / f"{i}.jpg")
    (folder / "classes.txt").write_text("cat\ndog\n")
    (folder / "labels_train.csv").write_text("file_name,labels\n0.jpg,cat\n1.jpg,dog\n2.jpg,cat;dog\n3.jpg,\n")
    (folder / "labels_test.csv").write_text("file_name,labels\n4.jpg,cat\n5.jpg,dog\n")
    return folder.parent


@pytest.fixture
def run(root: Path, call_tool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The tool, called with these arguments in the folder above the root."""
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    return partial(call_tool, "check_dataset")


def write_proposals(root: Path, monkeypatch: pytest.MonkeyPatch, name: str, box: tuple[float, ...]) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    records = dataset_records(name)
    items = [(record["image_id"], np.array([box]), np.array([0.5])) for record in records]
    write_store(proposals_path(name, "edge_boxes"), items, "edge_boxes", {}, image_list_digest(records))


def test_a_sound_data_set_is_ok(root: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pets_train", "pets_test"):
        write_proposals(root, monkeypatch, name, (0, 0, 90, 90))
    result = run("pets_train", "pets_test", "--json", "report.json")
    assert result.status == 0, result.err
    assert "pets_train: 4 images, 2 classes, 1.00 labels an image" in result.out
    assert "edge_boxes 1.0 an image (1 to 1)" in result.out
    assert result.out.splitlines()[-1] == "OK: 1 note"  # of the image without a label
    report = json.loads((root.parent / "report.json").read_text())
    train = report["datasets"]["pets_train"]
    assert report["ok"] and train["image_kinds"] == {"JPEG": 4}
    assert train["classes"]["dog"] == {"positives": 2, "ignored": 0} and train["together"] == [[2, 1], [1, 2]]
    for name in ("pets_train", "pets_test"):
        with Image.open(root.parent / "output/check" / name / "labels.png") as image:
            assert image.format == "PNG" and np.asarray(image.convert("L")).min() < 100


def test_what_is_wrong_is_listed_by_severity(
    root: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_proposals(root, monkeypatch, "pets_train", (0, 0, 121, 90))
    images = root / "pets" / "images"
    (images / "5.jpg").write_bytes((images / "0.jpg").read_bytes())
    (images / "unlisted.png").write_bytes(b"")
    (images / "4.jpg").write_bytes((images / "4.jpg").read_bytes()[:1500])
    result = run("pets_train", "pets_test", "--json", "report.json")
    assert result.status == 1, result.err
    assert result.out.splitlines()[-1] == "not OK: 3 errors, 3 notes"
    findings = json.loads((root.parent / "report.json").read_text())["findings"]
    expected = ["not inside the image", "1 image cannot be used", "equal files in pets_train and in pets_test"]
    expected += ["no proposals yet", "1 image has no label", "in none of the datasets"]
    assert [f["severity"] for f in findings] == 3 * ["error"] + 3 * ["note"]
    for finding, text in zip(findings, expected, strict=True):
        assert text in finding["message"]
    assert findings[2]["examples"] == ["0.jpg = 5.jpg"]
    assert "tools/generate_proposals.py --dataset pets_test" in findings[3]["message"]


def test_a_split_that_is_not_given_is_one_note(root: Path, run: Callable[..., Any]) -> None:
    result = run("pets_train")
    text = " ".join(result.out.split())
    assert "note pets_train: not checked: pets_test; copies between splits" in text
    assert "in none of the datasets" not in text
    (root / "pets" / "labels_test.csv").unlink()
    text = " ".join(run("pets_train").out.split())
    assert "not checked" not in text and "2 images in" in text and "in none of the datasets" in text


def test_what_loading_warns_of_is_a_finding(root: Path, run: Callable[..., Any]) -> None:
    (root / "pets" / "labels_train.csv").write_text("file_name,labels\n0.jpg,cat\n1.jpg,cat\n2.jpg,\n")
    boxes = {
        "categories": [{"id": 1, "name": "cat"}],
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in (0, 1, 2, 7)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 4, 4]}],
    }
    (root / "pets" / "instances_train.json").write_text(json.dumps(boxes))
    result = run("pets_train", "--json", "report.json")
    findings = json.loads((root.parent / "report.json").read_text())["findings"]
    warnings = [finding["message"] for finding in findings if finding["severity"] == "warning"]
    assert result.status == 0 and len(warnings) == 2 and result.err.count("instances_train") == 0
    assert warnings[0].endswith("images that are not in this split: 1, the first is 7.jpg")
    assert "no image here" in warnings[1]  # once, though loading warns of it, too


def test_warnings_of_one_kind_are_one_finding() -> None:
    logger, findings = logging.getLogger("mlickd.data.sources.coco_format"), []
    with collect_warnings("birds", findings):
        for number in (1, 2):
            logger.warning("annotation %d has no area", number)
        logger.warning("other")
    assert [(f.message, list(f.examples)) for f in findings] == [
        ("2 warnings of one kind in loading it", ["annotation 1 has no area", "annotation 2 has no area"]),
        ("other", []),
    ]


def test_a_data_set_that_does_not_load_is_an_error_and_the_others_are_checked(
    root: Path, run: Callable[..., Any]
) -> None:
    (root / "pets" / "labels_test.csv").write_text("file_name,labels\n4.jpg,hen\n")
    result = run("pets_train", "pets_test")
    assert result.status == 1
    assert "pets_train: 4 images" in result.out
    assert "cannot be loaded" in result.out and "label 'hen'" in " ".join(result.out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cats_train"], "unknown dataset 'cats_train'"),
        (["pets_val"], "there is no dataset 'pets_val'"),
        (["pets_train", "--workers", 0], "--workers 0: give at least 1"),
    ],
)
def test_bad_arguments_end_in_one_line(run: Callable[..., Any], arguments: list, message: str) -> None:
    result = run(*arguments)
    assert result.status == 2 and result.out == ""
    assert result.err.splitlines()[-1].startswith("error: ") and message in result.err


def test_proposals_that_must_be_there(run: Callable[..., Any]) -> None:
    result = run("pets_train", "--proposals", "selective_search")
    assert result.status == 1 and "--method selective_search" in " ".join(result.out.split())


def test_help_has_an_example(run: Callable[..., Any]) -> None:
    result = run("--help")
    assert result.status == 0 and "python tools/check_dataset.py holiday_train holiday_test" in result.out
