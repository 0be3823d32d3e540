"""Predictions of photos through the command line."""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.untrained_run import write_untrained_run, write_untrained_teacher
from mlickd.data.scenes import CATEGORY_NAMES
from mlickd.prediction import load_model
from mlickd.runs import write_class_names


@pytest.fixture(scope="module")
def runs(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write the folder of a seed with an untrained student and teacher, and hide their datasets."""
    folder = tmp_path_factory.mktemp("runs")
    write_class_names(write_untrained_run(folder / "distilled/prediction"), CATEGORY_NAMES)
    write_untrained_teacher(folder / "teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(folder / "nothing"))
        yield folder


@pytest.fixture
def photos(tiny_scenes: Path, tmp_path: Path) -> Path:
    """Write a folder of four photos."""
    folder = tmp_path / "my photos"
    (folder / "trip").mkdir(parents=True)
    for number, path in enumerate(sorted((tiny_scenes / "tiny/images").glob("test_*"))[:4]):
        shutil.copy(path, folder / ("trip" if number > 1 else ".") / f"photo {number}{path.suffix}")
    return folder


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_json_csv_and_table_agree_with_the_model(call_tool, runs: Path, photos: Path, tmp_path: Path) -> None:
    files = ["--json", tmp_path / "out/p.json", "--csv", tmp_path / "out/p.csv"]
    result = call_tool("predict", photos, "--model", runs, *files, "--batch-size", 3)
    assert result.status == 0 and "skipped" not in result.err, result.err
    model = load_model(runs / "distilled/prediction")
    paths = sorted(map(str, photos.rglob("*.*")))
    content = json.loads((tmp_path / "out/p.json").read_text())
    assert [photo["file"] for photo in content["photos"]] == paths and content["failures"] == []
    assert list(content["thresholds"].values()) == pytest.approx([0.4] * 20)
    assert content["thresholds_from"] == "0.4 for all classes"
    table = rows((tmp_path / "out/p.csv").read_text())
    for photo, row, found in zip(content["photos"], table, model.predict(paths), strict=True):
        assert photo["scores"] == pytest.approx(found.scores, abs=2e-6) and "regions" not in photo
        assert [label["name"] for label in photo["labels"]] == found.labels
        assert row["file_name"] == photo["file"] and row["labels"] == ";".join(found.labels)
        assert [float(row[name]) for name in model.class_names] == pytest.approx(found.values.tolist(), abs=1e-5)
        assert Path(photo["file"]).name in result.out


def test_shards_have_each_photo_once(call_tool, runs: Path, photos: Path, tmp_path: Path) -> None:
    for part in "1/3", "2/3", "3/3":
        result = call_tool("predict", photos, "--model", runs, "--csv", tmp_path / "new.csv", "--shard", part)
        assert result.status == 0, result.err
    tables = [rows((tmp_path / f"new.{number}-of-3.csv").read_text()) for number in (1, 2, 3)]
    assert sorted(map(len, tables)) == [1, 1, 2]
    assert sorted(row["file_name"] for table in tables for row in table) == sorted(map(str, photos.rglob("*.*")))


def test_each_process_of_torchrun_uses_a_different_gpu(call_tool, runs: Path, photos: Path, monkeypatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: not taken)  # the test needs no GPU
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for name, value in {"RANK": 5, "WORLD_SIZE": 8, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 4}.items():
        monkeypatch.setenv(name, str(value))
    result = call_tool("predict", photos, "--model", runs, "--shard", "1/2")
    assert result.status == 0 and taken == [1], result.err


def test_topk_and_threshold_choose_the_classes_to_show(call_tool, runs: Path, photos: Path, monkeypatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # so that the table is not cut

    def shown(*options: object) -> list[list[dict]]:
        result = call_tool("predict", photos / "photo 0.jpg", "--model", runs / "distilled", "--json", "-", *options)
        assert result.status == 0, result.err
        return [photo["labels"] for photo in json.loads(result.out)["photos"]]

    ((first, *others),) = shown("--threshold", 0)
    scores = [first["score"], *(label["score"] for label in others)]
    assert scores == sorted(scores, reverse=True) and len(scores) == 20
    assert shown("--threshold", 0, "--topk", 2) == [[first, others[0]]]
    middle = (scores[4] + scores[5]) / 2
    assert [len(labels) for labels in shown("--threshold", middle)] == [5]
    assert [len(labels) for labels in shown("--threshold", middle, "--topk", 7)] == [5]
    assert shown("--threshold", 1) == [[]]
    table = call_tool("predict", photos / "photo 0.jpg", "--model", runs / "distilled", "--topk", 20).out
    names = [label["name"] for label in (first, *others)]
    assert re.findall("|".join(names), table) == names, "the table shows the best classes at any score"


def test_the_table_fits_the_terminal(call_tool, runs: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    result = call_tool("predict", photos, "--model", runs, "--threshold", 0)
    assert "…" not in result.out and max(map(len, result.out.splitlines())) > 200
    monkeypatch.setenv("COLUMNS", "60")
    shutil.copy(photos / "photo 0.jpg", photos / f"{'long ' * 30}.jpg")
    result = call_tool("predict", photos, "--model", runs, "--threshold", 1)
    assert result.out.count("none (best: ") == 5 and max(map(len, result.out.splitlines())) <= 60
    assert any(line.startswith("…") and "long .jpg" in line for line in result.out.splitlines())


def test_paths_from_standard_input_and_bad_photos(call_tool, runs: Path, photos: Path, monkeypatch) -> None:
    (photos / "broken.jpg").write_bytes((photos / "photo 0.jpg").read_bytes()[:100])
    listed = [photos / name for name in ("photo 1.jpg", "gone.jpg", "photo 0.jpg", "broken.jpg")]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n\n".join(map(str, listed))))
    result = call_tool("predict", "-", "--model", runs, "--csv", "-")
    assert result.status == 1
    assert [Path(row["file_name"]).name for row in rows(result.out)] == ["photo 1.jpg", "photo 0.jpg"]
    *_, first, second, last = result.err.splitlines()
    assert "gone.jpg" in first and "broken.jpg" in second and last.startswith("2 of 4 photos")
    few = call_tool("predict", photos / "broken.jpg", photos / "gone.jpg", "--model", runs)
    few.assert_ends_in_one_line("broken.jpg")


def test_the_teacher_computes_proposals_and_shows_regions(call_tool, runs: Path, photos: Path, tmp_path: Path) -> None:
    options = ["--topk", 2, "--json", tmp_path / "p.json", "--save", tmp_path / "figures"]
    result = call_tool("predict", photos / "*.jpg", "--model", runs / "teacher", *options)
    assert result.status == 0, result.err
    teacher = load_model(runs / "teacher")
    for photo in json.loads((tmp_path / "p.json").read_text())["photos"]:
        assert photo["scores"] == pytest.approx(teacher.predict(photo["file"]).scores, abs=1e-5)
        boxes = np.array([region["box"] for region in photo["regions"]])
        assert len(boxes) and (boxes >= 0).all() and (boxes <= 128.001).all() and boxes.max() > 70, "not of the view"
    assert len(list((tmp_path / "figures").iterdir())) == 2


def test_figures_never_replace_files(call_tool, runs: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "photo 0.jpg", photos / "trip")
    Image.new("RGB", (300, 40), "#ff0000").save(photos / "red.png")
    result = call_tool("predict", photos, "--model", runs, "--topk", 3, "--save", tmp_path / "figures")
    assert result.status == 0, result.err
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {*(f"photo {number}.jpg" for number in range(4)), "photo 0-2.jpg", "red.jpg"}
    before = {path: path.read_bytes() for path in photos.iterdir() if path.is_file()}
    call_tool("predict", photos, "--model", runs, "--save", photos).assert_ends_in_one_line(f"{photos}: is not empty")
    assert {path: path.read_bytes() for path in photos.iterdir() if path.is_file()} == before
