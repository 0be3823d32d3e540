from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from mlickd.data import ProposalStore, class_names, dataset_records, proposals_path, write_store


@pytest.fixture
def run(tiny_scenes: Path, call_tool: Callable[..., Any]) -> Callable[..., Any]:
    """The tool, called with these arguments."""
    return partial(call_tool, "convert_proposals")


@pytest.fixture
def store(tiny_scenes: Path, tmp_path: Path) -> ProposalStore:
    generator = np.random.default_rng(0)
    items = []
    for record in dataset_records("tiny_test"):
        low = generator.integers(0, 60, (5, 2))
        boxes = np.hstack((low, low + generator.integers(1, 60, (5, 2))))
        items.append((record["image_id"], boxes, np.linspace(1, 0.5, 5)))
    write_store(tmp_path / "p", items, "m", {}, "d")
    return ProposalStore.open(tmp_path / "p")


def assert_same(path: Path, store: ProposalStore, with_scores: bool = True) -> None:
    read = ProposalStore.open(path)
    assert list(read) == list(store)
    for image_id in store:
        np.testing.assert_allclose(read[image_id][0], store[image_id][0], atol=1e-4)
        if with_scores:
            np.testing.assert_allclose(read[image_id][1], store[image_id][1], atol=1e-6)


def test_export_and_import(run, store: ProposalStore, tmp_path: Path) -> None:
    result = run("export", "--input", store.path, "--output", tmp_path / "p.pkl")
    assert result.out == f"{tmp_path / 'p.pkl'}: 12 images, 60 proposals\n"
    arguments = ["import", "--format", "detectron2", "--input", tmp_path / "p.pkl", "--dataset", "tiny_test"]
    run(*arguments, "--output", tmp_path / "q")
    assert_same(tmp_path / "q", store)
    assert ProposalStore.open(tmp_path / "q").header["method"] == "detectron2"


def test_mat_files_to_the_default_place(run, store: ProposalStore, tmp_path: Path, caplog) -> None:
    boxes = [store[image_id][0][:, [1, 0, 3, 2]] + (1, 1, 0, 0) for image_id in store]
    names = [Path(image_id).stem for image_id in store]
    content = {name: np.empty((1, 13), dtype=object) for name in ("boxes", "images", "boxScores")}
    content["boxes"][0] = [*boxes, np.ones((1, 4))]
    content["images"][0] = [*names, "of_another_split"]
    content["boxScores"][0] = [*(store[image_id][1] for image_id in store), np.ones(1)]
    savemat(tmp_path / "p.mat", content)
    caplog.set_level(logging.INFO)
    for kind in ("wsddn", "oicr"):
        result = run("import", "--format", kind, "--input", tmp_path / "p.mat", "--dataset", "tiny_test")
        path = proposals_path("tiny_test", kind)
        assert_same(path, store)
        assert result.out == f"{path}: 12 images, 60 proposals\n" and "of_another_split" in caplog.text
        shutil.rmtree(path)
    for name, image_boxes in zip(names, boxes, strict=True):
        (tmp_path / "mcg").mkdir(exist_ok=True)
        savemat(tmp_path / "mcg" / f"{name}.mat", {"boxes": image_boxes})
    run(*("import", "--format", "mcg", "--input", tmp_path / "mcg", "--dataset", "tiny_test"))
    assert_same(proposals_path("tiny_test", "mcg"), store, with_scores=False)
    shutil.rmtree(proposals_path("tiny_test", "mcg"))


@pytest.mark.parametrize("side", [672, 0])
def test_release_list(side: int, run, store: ProposalStore, tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    labels = " ".join("0" for _ in class_names("tiny_test"))
    lines = []
    for image_id in store:
        boxes, scores = store[image_id]
        rows = np.column_stack((boxes * (672 / 128 if side else 1), scores))
        numbers = " ".join(f"{value:.6f}" for value in rows.ravel())
        lines.append(f"images/{image_id} {labels} {numbers} 0 0 0 0 0")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    arguments = ["import", "--format", "release", "--input", tmp_path / "list.txt", "--dataset", "tiny_test"]
    result = run(*arguments, "--output", tmp_path / "q", *([] if side else ["--side", 0]))
    assert_same(tmp_path / "q", store)
    assert "60 proposals" in result.out and "12 boxes" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "--input", "none", "--output", "x"], "none"),
        (["import", "--format", "detectron2", "--input", "none", "--dataset", "tiny_test"], "none"),
        (["import", "--format", "mcg", "--input", "none", "--dataset", "nowhere_test"], "nowhere_test"),
    ],
)
def test_bad_arguments_end_in_one_line(run, tmp_path: Path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    run(*arguments).assert_ends_in_one_line(message)
