"""Checks of datasets through the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from mlickd.data import dataset_records, proposals_path, write_store
from mlickd.data.proposals.store import image_list_digest


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a folder dataset `pets` of 4 training and 2 test images without problems, and return its root."""
    folder = tmp_path / "datasets" / "pets"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(cv2.resize(coarse, (120, 90))).save(folder / "images" / f"{i}.jpg")
    (folder / "classes.txt").write_text("cat\ndog\n")
    (folder / "labels_train.csv").write_text("file_name,labels\n0.jpg,cat\n1.jpg,dog\n2.jpg,cat;dog\n3.jpg,\n")
    (folder / "labels_test.csv").write_text("file_name,labels\n4.jpg,cat\n5.jpg,dog\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(folder.parent))
    return folder.parent


@pytest.fixture
def run(root: Path, call_tool: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls the tool, and returns its result and the findings by severity."""

    def call(*arguments: object) -> tuple[Any, dict[str, list[str]]]:
        result = call_tool("check_dataset", *arguments, "--json", "report.json")
        found: dict[str, list[str]] = {"error": [], "warning": [], "note": []}
        if result.status < 2:
            for finding in json.loads(Path("report.json").read_text())["findings"]:
                text = f"{finding['dataset']}: {finding['message']}: {', '.join(finding['examples'])}"
                found[finding["severity"]].append(text)
        return result, found

    return call


def write_proposals(name: str, box: tuple[float, ...]) -> None:
    records = dataset_records(name)
    items = [(record["image_id"], np.array([box]), np.array([0.5])) for record in records]
    write_store(proposals_path(name, "edge_boxes"), items, "edge_boxes", {}, image_list_digest(records))


def test_a_sound_dataset_is_ok(root: Path, run: Callable[..., Any]) -> None:
    for name in ("pets_train", "pets_test"):
        write_proposals(name, (0, 0, 90, 90))
    result, found = run("pets_train", "pets_test")
    assert result.status == 0, result.err
    assert "pets_train: 4 images, 2 classes" in result.out
    assert found["error"] == found["warning"] == [] and len(found["note"]) == 1  # an image without a label
    report = json.loads(Path("report.json").read_text())
    train = report["datasets"]["pets_train"]
    assert report["ok"]
    assert train["classes"] == {"cat": 2, "dog": 2} and train["conditional"] == [[None, 0.5], [0.5, None]]
    assert train["images_by_number_of_labels"] == {"0": 1, "1": 2, "2": 1}
    for name in ("pets_train", "pets_test"):
        with Image.open(f"output/check/{name}/labels.png") as image:
            assert image.format == "PNG" and np.asarray(image.convert("L")).min() < 100


def test_problems_are_listed_by_severity(root: Path, run: Callable[..., Any]) -> None:
    images = root / "pets" / "images"
    (root / "pets" / "labels_test.csv").write_text("file_name,labels\n4.jpg,cat\n5.jpg,dog\n6.jpg,cat\n")
    (images / "6.jpg").write_bytes((images / "0.jpg").read_bytes())
    Image.open(images / "0.jpg").save(images / "5.jpg", quality=50)
    write_proposals("pets_train", (0, 0, 121, 90))
    (images / "4.jpg").write_bytes((images / "4.jpg").read_bytes()[:1500])
    result, found = run("pets_train", "pets_test")
    assert result.status == 1, result.err
    order = [line.split()[0] for line in result.out.splitlines() if line.startswith(("error", "warning", "note"))]
    assert order == 3 * ["error"] + 2 * ["warning"] + 2 * ["note"]
    expected = {
        "error": ["edge_boxes", "4.jpg", "0.jpg = 6.jpg"],
        "warning": ["0.jpg = 5.jpg", "5.jpg = 6.jpg"],
        "note": ["pets_test: no proposals", "pets_train: images without a label"],
    }
    for severity, texts in expected.items():
        assert len(found[severity]) == len(texts)
        assert all(any(text in finding for finding in found[severity]) for text in texts), found[severity]


def test_different_class_lists_and_warnings_are_found(root: Path, run: Callable[..., Any], caplog) -> None:
    other = root / "cows"
    other.mkdir()
    (other / "images").symlink_to(root / "pets" / "images")
    (other / "classes.txt").write_text("dog\ncow\n")
    (other / "labels_test.csv").write_text("file_name,labels\n4.jpg,dog\n5.jpg,dog\n")
    boxes = {
        "categories": [{"id": 1, "name": "cat"}],
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in (0, 1, 2, 3, 7)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 4, 4]}],
    }
    (root / "pets" / "instances_train.json").write_text(json.dumps(boxes))
    result, found = run("pets_train", "cows_test")
    assert result.status == 1 and "instances_train" not in caplog.text
    (error,) = found["error"]
    assert error.startswith("cows_test: ") and error.endswith("cat, cow")
    assert [text.split(":")[0] for text in found["warning"]] == ["pets_train", "cows_test", "cows_test"]
    assert "instances_train.json" in found["warning"][0]
    assert found["warning"][1].endswith("cow") and found["warning"][2].endswith("dog")


def test_unknown_labels_are_not_negatives(root: Path, run: Callable[..., Any]) -> None:
    table = "file_name,cat,dog\n0.jpg,-1,-1\n1.jpg,-1,0\n2.jpg,0,0\n3.jpg,1,-1\n"
    (root / "pets" / "labels_train.csv").write_text(table)
    result, found = run("pets_train")
    assert result.status == 0 and "cat 2, dog 2" in " ".join(result.out.split()), result.err
    train = json.loads(Path("report.json").read_text())["datasets"]["pets_train"]
    assert train["unknown"] == {"cat": 2, "dog": 2} and train["conditional"] == 2 * [[None, None]], "no known pair"
    negative, unknown = (text for text in found["note"] if "images without a label" in text)
    assert ": 1: " in negative and ": 2: " in unknown and "unknown" in unknown


def test_copies_of_test_images_in_an_unlabeled_split_are_found(root: Path, run: Callable[..., Any]) -> None:
    (root / "pets" / "labels_more.csv").write_text("file_name,cat,dog\n6.jpg,-1,-1\n")
    (root / "pets/images/6.jpg").write_bytes((root / "pets/images/4.jpg").read_bytes())
    for names in (("pets_test", "pets_more"), ("pets_more", "pets_test")):
        result, found = run(*names)
        assert result.status == 0 and found["error"] == []
        assert any("1 pair of equal files" in warning and "if the labeled" in warning for warning in found["warning"])
    assert any(note.startswith("pets_more: no photo has a label") for note in found["note"])


def test_metadata_that_cannot_be_read_is_a_note(root: Path, run: Callable[..., Any], caplog) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "maker of cameras"
    for name in ("0.jpg", "1.jpg"):
        path = root / "pets" / "images" / name
        with Image.open(path) as image:
            image.save(path, exif=exif.tobytes()[:-20])
    result, found = run("pets_train")
    assert result.status == 0 and found["warning"] == [] and "site-packages" not in result.err + caplog.text, result.err
    (note,) = (text for text in found["note"] if "metadata" in text)
    assert "0.jpg" in note and "1.jpg" in note and "EXIF" in note and "site-packages" not in note


def test_an_unwritable_output_is_found_before_images_are_read(root: Path, run: Callable[..., Any]) -> None:
    Path("output").write_text("a file")
    result, _ = run("pets_train")
    result.assert_ends_in_one_line("output")
    assert not result.out and not Path("report.json").exists()


def test_other_datasets_are_checked_if_one_cannot_be_loaded(root: Path, run: Callable[..., Any]) -> None:
    (root / "pets" / "labels_test.csv").write_text("file_name,labels\n4.jpg,hen\n")
    result, found = run("pets_train", "pets_test", "--proposals", "selective_search")
    assert result.status == 1 and "pets_train: 4 images" in result.out
    assert any("'hen'" in text for text in found["error"])
    assert any("pets_train_selective_search" in text for text in found["error"])
