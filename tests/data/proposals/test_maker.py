from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import detection_utils

from mlickd.config import default_config
from mlickd.data import MultiLabelMapper, ProposalStore, View, dataset_records, propose, write_store
from mlickd.data.build import build_inference_mapper
from mlickd.data.proposals.generation import generate_proposals
from mlickd.data.proposals.maker import ProposalMaker, maker_for
from mlickd.errors import InputError

QUICK = {"longer_side": 90, "max_proposals": 60}


@pytest.fixture
def records(tiny_scenes: Path) -> list[dict]:
    return dataset_records("tiny_test")[:3]


def configuration(*options: object):
    cfg = default_config()
    cfg.merge_from_list(
        ["MODEL.META_ARCHITECTURE", "WeaklySupervisedDetector", "DATASETS.TRAIN", ("tiny_train",), *options]
    )
    return cfg


@pytest.mark.parametrize("method", ["edge_boxes", "selective_search", "sliding"])
def test_one_photo_gives_the_bytes_of_the_store(method: str, records: list[dict], tmp_path: Path) -> None:
    store = ProposalStore.open(generate_proposals(records, method, QUICK, tmp_path / "p", workers=0))
    for record in records:
        for image_format in ("BGR", "RGB"):
            image = detection_utils.read_image(record["file_name"], image_format)
            boxes, scores = propose(image, method, QUICK, image_format=image_format)
            expected_boxes, expected_scores = store[record["image_id"]]
            assert boxes.tobytes() == expected_boxes.tobytes() and scores.tobytes() == expected_scores.tobytes()


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_samples_are_those_with_a_store(image_format: str, records: list[dict], tmp_path: Path) -> None:
    store = ProposalStore.open(generate_proposals(records, "edge_boxes", QUICK, tmp_path / "p", workers=0))
    arguments = {"image_format": image_format, "top_k": 40, "min_side": 6.0}
    mappers = [MultiLabelMapper(proposals=p, **arguments) for p in (store, ProposalMaker("edge_boxes", QUICK))]
    for record in records:
        first, second = (mapper(record, View(64, mirror=True))["proposals"] for mapper in mappers)
        assert first.proposal_boxes.tensor.equal(second.proposal_boxes.tensor)
        assert first.objectness.equal(second.objectness)


def test_parameters_are_those_of_the_training_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert maker_for(configuration()) == ProposalMaker("edge_boxes", {})
    path = tmp_path / "proposals" / "tiny_train_edge_boxes.proposals"
    write_store(path, [], "edge_boxes", QUICK, "")
    assert maker_for(configuration()) == ProposalMaker("edge_boxes", QUICK)
    write_store(tmp_path / "other", [], "sliding", {"overlap": 0.5}, "")
    files = configuration("DATASETS.PROPOSALS.TRAIN_FILES", (str(tmp_path / "other"),))
    assert maker_for(files) == ProposalMaker("sliding", {"overlap": 0.5})
    write_store(tmp_path / "other", [], "wsddn", {}, "")
    with pytest.raises(InputError, match="proposals of wsddn come from a file"):
        maker_for(files)
    write_store(path, [], "edge_boxes", {"gone": 1}, "")
    with pytest.raises(InputError, match="unknown parameter gone"):
        maker_for(configuration())


def test_a_model_file_cannot_be_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    cfg = configuration("DATASETS.PROPOSALS.METHOD", "structured_edge_boxes")
    message = "structured_edge_boxes needs its model file.*make a store for these photos .* --set model FILE"
    with pytest.raises(InputError, match=message):
        maker_for(cfg)
    path = tmp_path / "proposals" / "tiny_train_structured_edge_boxes.proposals"
    write_store(path, [], "structured_edge_boxes", {"model": "sha256:12"}, "")
    with pytest.raises(InputError, match=message):
        build_inference_mapper(cfg)


def test_defaults_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    maker_for(configuration())
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "tiny_train_edge_boxes.proposals" in warning and "the defaults of edge_boxes" in warning
    caplog.clear()
    write_store(tmp_path / "proposals" / "tiny_train_edge_boxes.proposals", [], "edge_boxes", QUICK, "")
    maker_for(configuration())
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_store_that_does_not_say_how_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "p"
    write_store(path, [], "edge_boxes", {}, "")
    path.write_bytes(path.read_bytes().replace(b'"method"', b'"mothed"'))
    with pytest.raises(InputError, match="p: its header has no method and parameters; make it again"):
        maker_for(configuration("DATASETS.PROPOSALS.TRAIN_FILES", (str(path),)))


def test_a_store_that_is_there_is_used(records: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    cfg = configuration("INPUT.SIZE_TEST", 128)
    made = build_inference_mapper(cfg, "tiny_test")(records[0])["proposals"]
    assert len(made) > 10
    box = np.array([[1, 2, 30, 40]])
    path = tmp_path / "proposals" / "tiny_test_edge_boxes.proposals"
    write_store(path, [(record["image_id"], box, [1]) for record in records], "edge_boxes", {}, "")
    assert len(build_inference_mapper(cfg, "tiny_test")(records[0])["proposals"]) == 1
    assert len(build_inference_mapper(cfg)(records[0])["proposals"]) == len(made)
    cfg.MODEL.META_ARCHITECTURE = "MultiLabelClassifier"
    assert "proposals" not in build_inference_mapper(cfg)(records[0])


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (np.zeros((5, 5), np.uint8), {}, r"uint8 of shape \(5, 5\)"),
        (np.zeros((5, 5, 3)), {}, "is float64 of shape"),
        (np.zeros((0, 5, 3), np.uint8), {}, "give uint8 of shape"),
        (np.zeros((5, 5, 3), np.uint8), {"image_format": "L"}, "image_format is 'L'"),
        (np.zeros((5, 5, 3), np.uint8), {"method": "edges"}, "unknown proposal method"),
    ],
)
def test_bad_images(image: np.ndarray, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        propose(image, **arguments)
