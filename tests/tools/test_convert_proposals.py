"""Conversion of proposals from other formats."""

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from helpers.cached_scenes import write_random_boxes
from mlickd.data import ProposalStore, class_names, proposals_path


@pytest.fixture
def store(tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProposalStore:
    (tmp_path / "tiny").symlink_to(tiny_scenes / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    write_random_boxes(tmp_path / "p", "tiny_test", seed=0, counts=(5, 6))
    return ProposalStore(tmp_path / "p")


def write_foreign(store: ProposalStore, kind: str, path: Path) -> None:
    """Write the proposals in another format, with one more image, which belongs to another split."""
    names = [*(Path(image_id).stem for image_id in store), "of_another_split"]
    boxes = [*(store[image_id][0] for image_id in store), np.ones((1, 4)) + (0, 0, 1, 1)]
    scores = [*(store[image_id][1] for image_id in store), np.ones(1)]
    # (y0, x0, y1, x1); pixels count from 1, and a box includes its last pixel.
    for_matlab = [image_boxes[:, [1, 0, 3, 2]] + (1, 1, 0, 0) for image_boxes in boxes]
    if kind == "detectron2":
        path.write_bytes(pickle.dumps({"indexes": names, "boxes": boxes, "scores": scores}))
    elif kind == "mcg":
        (path / "sub").mkdir(parents=True)
        for name, image_boxes, image_scores in zip(names, for_matlab, scores, strict=True):
            savemat(path / "sub" / f"{name}.mat", {"boxes": image_boxes, "scores": image_scores})
    elif kind == "release":
        labels = " ".join("0" for _ in class_names("tiny_test"))
        rows = [np.column_stack((b * (672 / 128), s)).ravel() for b, s in zip(boxes, scores, strict=True)]
        numbers = [" ".join(f"{value:.6f}" for value in row) for row in rows]
        lines = [f"images/{name}.jpg {labels} {row} 0 0 0 0 0" for name, row in zip(names, numbers, strict=True)]
        path.write_text("\n".join(lines))
    else:
        content = {name: np.empty((1, 13), dtype=object) for name in ("boxes", "images", "boxScores")}
        content["boxes"][0], content["images"][0], content["boxScores"][0] = for_matlab, names, scores
        savemat(path, content)


@pytest.mark.parametrize("kind", ["detectron2", "voc_mat", "mcg", "release"])
def test_every_format_is_imported(kind: str, store: ProposalStore, tmp_path: Path, call_tool, caplog) -> None:
    caplog.set_level(logging.INFO)
    write_foreign(store, kind, tmp_path / "f.mat")
    arguments = ["--format", kind, "--input", tmp_path / "f.mat", "--dataset", "tiny_test"]
    output = proposals_path("tiny_test", kind)
    call_tool("convert_proposals", *arguments[:3], tmp_path / "none", *arguments[4:]).assert_ends_in_one_line("none")
    result = call_tool("convert_proposals", *arguments)
    assert result.out == f"{output}: 12 images, 60 proposals\n"
    assert "of_another_split" in caplog.text
    assert ("12 boxes" in caplog.text) == (kind == "release")
    read = ProposalStore(output)
    assert list(read) == list(store) and read.header["method"] == kind
    for image_id in store:
        np.testing.assert_allclose(read[image_id][0], store[image_id][0], atol=1e-4)
        np.testing.assert_allclose(read[image_id][1], store[image_id][1], atol=1e-6)
