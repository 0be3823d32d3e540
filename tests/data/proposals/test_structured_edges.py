from __future__ import annotations

import gzip
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers.structured_forest import OPTIONS, write_forest
from mlickd.data import ProposalStore, dataset_records
from mlickd.data.proposals.generation import generate_proposals
from mlickd.data.proposals.methods import proposals_for_image
from mlickd.data.proposals.structured_edges import model_digest, structured_edges
from mlickd.errors import InputError

QUICK = {"longer_side": 64}


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_forest(tmp_path_factory.mktemp("forest") / "model.yml.gz"))


def rectangle() -> np.ndarray:
    image = np.zeros((120, 160, 3), dtype=np.uint8)
    cv2.rectangle(image, (40, 30), (119, 89), (255, 255, 255), -1)
    return image


def test_edges_are_where_the_forest_says(forest: str) -> None:
    edges, orientation = structured_edges(rectangle(), forest)
    assert edges.shape == orientation.shape == (120, 160) and edges.dtype == orientation.dtype == np.float32
    assert edges[24:36, 80].max() > 0.2 and edges[60, 34:46].max() > 0.2
    assert edges[55:65, 70:90].max() == edges[5:15, 70:90].max() == 0


def test_method_finds_the_rectangle(forest: str) -> None:
    boxes, scores = proposals_for_image(rectangle(), "structured_edge_boxes", {"model": forest, "longer_side": 160})
    low, high = np.maximum(boxes[:, :2], (40, 30)), np.minimum(boxes[:, 2:], (120, 90))
    common = np.clip(high - low, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    assert (common / (areas + 80 * 60 - common)).max() > 0.7
    assert (np.diff(scores) <= 0).all()


def test_store_names_the_model_by_its_content(forest: str, tiny_scenes: Path, tmp_path: Path) -> None:
    records = dataset_records("tiny_test")[:4]
    copy = tmp_path / "another_name.yml.gz"
    copy.write_bytes(Path(forest).read_bytes())

    def generate(model: object, workers: int) -> Path:
        parameters = {**QUICK, "model": str(model)}
        return generate_proposals(records, "structured_edge_boxes", parameters, tmp_path / str(workers), workers)

    path = generate(forest, 0)
    assert path.read_bytes() == generate(copy, 2).read_bytes()
    assert ProposalStore.open(path).header["parameters"]["model"] == model_digest(forest)
    other = write_forest(tmp_path / "other.yml.gz", threshold=0.1)
    assert ProposalStore.open(generate(other, 0)).header["parameters"]["model"] == model_digest(str(other))


def test_missing_or_damaged_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="model '': .*give the path of a structured forest"):
        proposals_for_image(rectangle(), "structured_edge_boxes")
    with pytest.raises(InputError, match="nowhere.yml.gz': .*take the method edge_boxes"):
        model_digest("nowhere.yml.gz")
    path = tmp_path / "model.yml.gz"
    without = {name: value for name, value in OPTIONS.items() if name != "numberOfTrees"}
    for write, message in (
        (lambda: path.write_text("no forest"), "no structured forest"),
        (lambda: gzip.open(path, "wt").write("%YAML:1.0\n---\noptions:\n   stride: 2\n"), "without numberOfTrees"),
        (lambda: write_forest(path, options=without), "without numberOfTrees"),
        (lambda: write_forest(path, options={**OPTIONS, "stride": 0}), "without stride"),
    ):
        write()
        with pytest.raises(InputError, match=message) as error:
            structured_edges(rectangle(), str(path))
        assert "\n" not in str(error.value)
