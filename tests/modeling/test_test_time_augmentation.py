"""Averages over views: of the teacher's regions, and of the student's probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import nn
from torch.nn import functional as F

from helpers.small_models import CLASSES, make_batch, student_config, teacher_config
from mlickd.modeling.test_time_augmentation import ImageModelWithTTA, mirrored_view

HEADS = ("WSDDNHeads", "OICRHeads")


def make_teacher(heads: str) -> nn.Module:
    """Its initial weights are small; larger ones make regions differ."""
    cfg = teacher_config()
    cfg.MODEL.ROI_HEADS.NAME = heads
    cfg.MODEL.WSDDN.INIT_STD = 3.0
    torch.manual_seed(0)
    return build_model(cfg).eval()


def make_samples(sides: tuple[int, ...] = (64, 48)) -> list[dict]:
    """Two images of 90 x 120 pixels with their views, as the loader gives them."""
    samples = []
    for sample in make_batch():
        views = []
        for side in sides:
            pixels = F.interpolate(sample["teacher_image"][None].float(), size=side, mode="bilinear")[0]
            proposals = Instances((side, side), objectness=sample["teacher_proposals"].objectness)
            proposals.proposal_boxes = Boxes(sample["teacher_proposals"].proposal_boxes.tensor * side / 64)
            views.append({"image": pixels.round().byte(), "proposals": proposals})
        samples.append({"image_id": sample["image_id"], "height": 90, "width": 120, "views": views})
    return samples


def plain_samples(samples: list[dict], view: int = 0) -> list[dict]:
    return [{"height": s["height"], "width": s["width"], **s["views"][view]} for s in samples]


@torch.no_grad()
def run(model: nn.Module, samples: list[dict]) -> list[dict]:
    return model(samples)


@pytest.mark.parametrize("heads", HEADS)
def test_the_average_over_one_view_is_the_plain_teacher(heads: str) -> None:
    teacher, samples = make_teacher(heads), make_samples((64,))
    averaged = run(ImageModelWithTTA(teacher, flip=False), samples)
    for one, other in zip(run(teacher, plain_samples(samples)), averaged, strict=True):
        assert torch.equal(one["image_scores"], other["image_scores"])
        for field in ("scores", "pred_classes"):
            assert torch.equal(one["instances"].get(field), other["instances"].get(field))
        assert torch.equal(one["instances"].pred_boxes.tensor, other["instances"].pred_boxes.tensor)
        assert len(one["instances"]) > 0


@pytest.mark.parametrize("heads", HEADS)
def test_the_average_of_a_mirrored_image_is_the_same_mirrored(heads: str) -> None:
    teacher, samples = make_teacher(heads), make_samples()
    mirrored = [{**s, "views": [mirrored_view(view) for view in s["views"]]} for s in samples]
    model = ImageModelWithTTA(teacher, flip=True)
    for one, other in zip(run(model, samples), run(model, mirrored), strict=True):
        torch.testing.assert_close(one["image_scores"], other["image_scores"])
        torch.testing.assert_close(one["instances"].scores, other["instances"].scores)
        x0, y0, x1, y1 = one["instances"].pred_boxes.tensor.unbind(dim=1)
        expected = torch.stack([120 - x1, y0, 120 - x0, y1], dim=1)
        torch.testing.assert_close(other["instances"].pred_boxes.tensor, expected, atol=1e-3, rtol=0)
    one, other = (run(teacher, plain_samples(s)) for s in (samples, mirrored))
    assert not torch.allclose(one[0]["image_scores"], other[0]["image_scores"])  # one view alone tells them apart


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def non_maximum_suppression(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        for j in kept:
            low, high = np.maximum(boxes[i, :2], boxes[j, :2]), np.minimum(boxes[i, 2:], boxes[j, 2:])
            shared = np.prod(np.maximum(high - low, 0))
            areas = [np.prod(boxes[k, 2:] - boxes[k, :2]) for k in (i, j)]
            if shared / (sum(areas) - shared) > threshold:
                break
        else:
            kept.append(int(i))
    return kept


@pytest.mark.parametrize("heads", HEADS)
def test_averages_and_detections_against_numpy(heads: str) -> None:
    teacher, samples = make_teacher(heads), make_samples()
    outputs = run(ImageModelWithTTA(teacher, flip=True), samples)
    for sample, output in zip(samples, outputs, strict=True):
        image_level, region_level = [], []
        for view in sample["views"]:
            for image, flipped in ((view["image"], False), (torch.flip(view["image"], [2]), True)):
                boxes = view["proposals"].proposal_boxes.tensor.clone()
                if flipped:
                    boxes[:, [0, 2]] = image.shape[2] - boxes[:, [2, 0]]
                proposals = Instances(tuple(image.shape[1:]), proposal_boxes=Boxes(boxes))
                proposals.objectness = view["proposals"].objectness
                with torch.no_grad():
                    _, said = teacher.predict_regions([image], [proposals])
                    refined = [stream(said.embeddings).numpy() for stream in refinements(teacher)]
                streams = softmax(said.class_logits.numpy(), 1) * softmax(said.detection_logits.numpy(), 0)
                image_level.append(streams.sum(axis=0))
                region_level.append(np.mean([softmax(x, 1)[:, :-1] for x in refined], axis=0) if refined else streams)
        np.testing.assert_allclose(output["image_scores"].numpy(), np.mean(image_level, axis=0), rtol=1e-4)
        scores = np.mean(region_level, axis=0)
        boxes = sample["views"][0]["proposals"].proposal_boxes.tensor.numpy()
        expected = [
            (scores[i, c], c, *(boxes[i] * np.array([120, 90, 120, 90]) / 64))
            for c in range(CLASSES)
            for i in non_maximum_suppression(boxes, scores[:, c], 0.4)
            if scores[i, c] > 0.00001
        ]
        expected = np.array(sorted(expected, reverse=True))
        found = output["instances"]
        np.testing.assert_allclose(found.scores.numpy(), expected[:, 0], rtol=1e-3)
        assert found.pred_classes.tolist() == expected[:, 1].tolist()
        np.testing.assert_allclose(found.pred_boxes.tensor.numpy(), expected[:, 2:], rtol=1e-4, atol=1e-3)


def refinements(teacher: nn.Module) -> list[nn.Module]:
    return list(getattr(teacher.roi_heads, "refinement_streams", ()))


def test_the_average_of_the_student_is_that_of_its_probabilities(tmp_path) -> None:
    cfg = student_config(tmp_path, "prediction")
    cfg.MODEL.META_ARCHITECTURE = "MultiLabelClassifier"
    torch.manual_seed(0)
    student = build_model(cfg).eval()
    nn.init.normal_(student.head.linear.weight, std=1.0)
    samples = make_samples()
    for sample in samples:
        sample["views"] = [{"image": view["image"]} for view in sample["views"]]
    averaged = run(ImageModelWithTTA(student, flip=True), samples)
    seen = [[sample["views"][i] for sample in samples] for i in range(2)]
    views = [*seen, *([mirrored_view(view) for view in views] for views in seen)]
    expected = torch.stack([torch.stack([o["image_scores"] for o in run(student, view)]) for view in views]).mean(dim=0)
    torch.testing.assert_close(torch.stack([o["image_scores"] for o in averaged]), expected)
    assert 0.001 < expected.min() and expected.max() < 0.999 and expected.std() > 0.01


def test_the_model_keeps_its_mode() -> None:
    teacher = make_teacher("WSDDNHeads").train()
    model = ImageModelWithTTA(teacher)
    assert model.training and teacher.training
    model.eval()
    assert not teacher.training
