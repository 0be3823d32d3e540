"""The benchmarks compare equal work, time it in turn, and write every value."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from benchmarks.inference import BareClassifier
from benchmarks.measurement import BenchmarkResult
from benchmarks.proposals import plain_edge_boxes
from benchmarks.settings import CONFIGS
from benchmarks.startup import shared_once
from benchmarks.synthetic import write_synthetic_coco
from mlickd.config import default_config
from mlickd.data import ProposalStore, dataset_records
from mlickd.data.proposals.dataset_proposals import generate_proposals
from mlickd.data.sources.coco import load_coco_multilabel
from mlickd.errors import InputError
from mlickd.modeling import load_backbone_weights

COMPARISON = BenchmarkResult("VGG16", "s", {"plain": [2.0, 4.0, 10.0], "ours": [1.0, 3.0, 5.0]})


def test_the_plain_loop_of_edge_boxes_finds_the_same_boxes(tiny_scenes: Path, tmp_path: Path) -> None:
    records = []
    for record in dataset_records("tiny_train")[:3]:
        path = tmp_path / f"{record['image_id']}.png"  # JPEG decoders round differently
        cv2.imwrite(str(path), cv2.imread(record["file_name"]))
        records.append({**record, "file_name": str(path)})
    store = generate_proposals(records, "edge_boxes", None, tmp_path / "store", workers=0)
    plain = plain_edge_boxes([record["file_name"] for record in records])
    for record, (boxes, scores) in zip(records, plain, strict=True):
        ours = {tuple(box) for box in store[record["image_id"]][0].round(2).tolist()}
        found = {tuple(box) for box in boxes.astype(np.float32).round(2).tolist()}
        # OpenCV returns a few boxes twice; the store has other boxes in their places.
        assert len(found & ours) > 0.98 * len(ours) > 100
        assert (np.diff(scores) <= 0).all()


def test_the_bare_network_gives_the_scores_of_the_student(tmp_path: Path) -> None:
    cfg = default_config()
    cfg.merge_from_file(str(CONFIGS / "folder/cls.yaml"))
    cfg.merge_from_list(["MODEL.NUM_CLASSES", 7, "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.FREEZE_NORM", False])
    bare, student = BareClassifier(cfg).eval(), build_model(cfg).eval()
    torch.save(bare.network.state_dict(), tmp_path / "bare.pth")
    load_backbone_weights(student, str(tmp_path / "bare.pth"))
    last = [module for module in bare.network.modules() if isinstance(module, torch.nn.Linear)][-1]
    student.head.linear.load_state_dict(last.state_dict())
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    with torch.inference_mode():
        ours = torch.stack([output["image_scores"] for output in student([{"image": image} for image in images])])
        torch.testing.assert_close(bare(images), ours, rtol=1e-4, atol=1e-5)


def test_the_synthetic_dataset_is_valid_and_reused(tmp_path: Path) -> None:
    write_synthetic_coco(tmp_path, 70, 5)
    folder = tmp_path / "coco"
    records = load_coco_multilabel(folder / "annotations/instances_train2014.json", folder / "train2014").records
    assert len(records) == 70 and 4 < sum(len(record["annotations"]) for record in records) / 70 < 11
    store = ProposalStore(tmp_path / "proposals/coco_2014_train_multilabel_edge_boxes")
    store.check(records)
    assert store.num_boxes == 5 * 70
    (folder / "train2014").rename(tmp_path / "moved")
    write_synthetic_coco(tmp_path, 70, 5)
    assert not (folder / "train2014").exists()  # with equal sizes, it is not written again
    write_synthetic_coco(tmp_path, 71, 5)
    assert (folder / "train2014").exists()
    (tmp_path / "synthetic.json").unlink()
    with pytest.raises(InputError, match=str(tmp_path)):
        write_synthetic_coco(tmp_path, 70, 5)


def test_shared_memory_counts_once() -> None:
    trainer = {"Rss": 100, "Anonymous": 50, "Pss_Anon": 40, "Pss_Shmem": 5}
    worker = {"Rss": 70, "Anonymous": 30, "Pss_Anon": 20, "Pss_Shmem": 0}
    assert shared_once([trainer, worker]) == 65 + 45


def test_a_ratio_is_the_median_over_the_repetitions() -> None:
    assert COMPARISON.ratio("ours") == 0.5  # the median of 0.5, 0.75 and 0.5; the ratio of the medians is 0.75
    assert COMPARISON.ratio("plain") == 1
    assert math.isnan(BenchmarkResult("", "s", {"plain": [0.0], "ours": [1.0]}).ratio("ours"))
