"""Teacher and student: preprocessing, class activation maps, averages over views, and refinements of OICR."""

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.structures import Boxes, ImageList, Instances
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from torch import nn
from torch.nn import functional as F
from torchvision.ops import box_iou, nms

from helpers.small_models import CLASSES, make_batch, student_config, teacher_config
from mlickd.errors import InputError
from mlickd.modeling import ImageModelWithTTA, MultiLabelClassifier
from mlickd.modeling.meta_arch import ClassifierWithActivationMaps, ImageModel, mirrored_view
from mlickd.modeling.meta_arch.multilabel_classifier import ClassifierHead
from mlickd.modeling.roi_heads.oicr import oicr_pseudo_labels, oicr_refinement_loss

MEAN, STD = (103.5, 116.2, 123.7), (57.4, 57.1, 58.4)


@pytest.mark.parametrize("size_divisibility", [0, 16])
@pytest.mark.parametrize("sizes", [[(20, 20)], [(16, 32)] * 2, [(20, 30), (24, 20)]])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_equals_the_image_list_of_detectron2(size_divisibility: int, sizes: list, dtype: torch.dtype) -> None:
    backbone = nn.Identity()
    backbone.size_divisibility = size_divisibility
    model = ImageModel(backbone=backbone, num_classes=1, pixel_mean=MEAN, pixel_std=STD)
    images = [torch.randint(256, (3, *size), dtype=torch.uint8).to(dtype) for size in sizes]
    given = [image.clone() for image in images]
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    expected = ImageList.from_tensors([(image.float() - mean) / std for image in images], size_divisibility)
    batch = model.preprocess(images)
    assert torch.equal(batch.tensor, expected.tensor) and batch.tensor.dtype == torch.float32
    assert batch.image_sizes == expected.image_sizes == sizes
    assert all(torch.equal(image, before) for image, before in zip(images, given, strict=True))


def make_classifier(tmp_path, *options: object) -> MultiLabelClassifier:
    cfg = student_config(tmp_path, "", "MODEL.META_ARCHITECTURE", "MultiLabelClassifier", *options)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    nn.init.normal_(model.head.linear.weight)
    nn.init.normal_(model.head.linear.bias)
    return model


def make_teacher(heads: str) -> nn.Module:
    cfg = teacher_config()
    cfg.MODEL.ROI_HEADS.NAME = heads
    cfg.MODEL.WSDDN.INIT_STD = 3.0
    torch.manual_seed(0)
    return build_model(cfg).eval()


@torch.no_grad()
def run(model: nn.Module, samples: list[dict]) -> list[dict]:
    return model(samples)


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_activation_maps_apply_the_classifier_to_each_cell(pooling: str, tmp_path) -> None:
    options = ("MODEL.CLASSIFIER.POOLING", pooling, "MODEL.CLASSIFIER.DROPOUT", 0.25)
    model, batch = make_classifier(tmp_path, *options), make_batch(3, side=64)
    assert model.head.dropout == 0.25
    outputs = run(ClassifierWithActivationMaps(model), batch)
    with torch.no_grad():
        features = model.backbone(model.preprocess([sample["image"] for sample in batch]).tensor)["conv5"]
    weight = model.head.linear.weight.detach()
    for output, plain, cells in zip(outputs, run(model, batch), features, strict=True):
        assert torch.equal(output["image_scores"], plain["image_scores"])
        maps = output["activation_maps"]
        expected = sum(weight[:, channel, None, None] * cells[channel] for channel in range(len(cells)))
        torch.testing.assert_close(maps, expected)


def test_activation_maps_that_would_not_be_exact_are_refused(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="MODEL.CLASSIFIER.POOLING fc"):
        ClassifierWithActivationMaps(make_classifier(tmp_path, "MODEL.CLASSIFIER.POOLING", "fc"))(make_batch(1))
    padded = make_classifier(tmp_path)
    monkeypatch.setattr(type(padded.backbone), "size_divisibility", 48)
    with pytest.raises(InputError, match="INPUT.SIZE_TEST: .* 48"):
        ClassifierWithActivationMaps(padded)(make_batch(1, side=64))


HEADS = pytest.mark.parametrize("heads", ["WSDDNHeads", "OICRHeads"])


def make_samples(sides: tuple[int, ...] = (64, 48)) -> list[dict]:
    """Return samples of two images of 90 x 120 pixels with their views, like the loader."""
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


def first_views(samples: list[dict]) -> list[dict]:
    return [{"height": s["height"], "width": s["width"], **s["views"][0]} for s in samples]


def test_a_frozen_backbone_computes_each_training_view_once_until_the_memory_is_full() -> None:
    views = [{**view, "labels": [0]} for view in first_views(make_samples())]
    losses = {}
    for memory in (0, 1):  # 1 MiB holds all maps
        cfg = teacher_config()
        cfg.MODEL.BACKBONE.FROZEN, cfg.MODEL.BACKBONE.FEATURE_CACHE_MIB = True, memory
        torch.manual_seed(0)
        model, calls = build_model(cfg).train(), []
        model.backbone.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        losses[memory] = [model([views[i] for i in batch])["loss_image"].item() for batch in ([0, 1], [1, 0], [1, 1])]
        assert len(calls) == (2 if memory else 3)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    model._cache_bytes_left, model._feature_cache = 0, {}
    model(views)
    assert not model._feature_cache


@HEADS
def test_a_mirrored_image_has_mirrored_detections(heads: str) -> None:
    teacher, samples = make_teacher(heads), make_samples()
    mirrored = [{**s, "views": [mirrored_view(view) for view in s["views"]]} for s in samples]
    model = ImageModelWithTTA(teacher, flip=True)
    for one, other in zip(run(model, samples), run(model, mirrored), strict=True):
        torch.testing.assert_close(one["image_scores"], other["image_scores"])
        torch.testing.assert_close(one["instances"].scores, other["instances"].scores)
        x0, y0, x1, y1 = one["instances"].pred_boxes.tensor.unbind(dim=1)
        expected = torch.stack([120 - x1, y0, 120 - x0, y1], dim=1)
        torch.testing.assert_close(other["instances"].pred_boxes.tensor, expected, atol=1e-3, rtol=0)
    one, other = (run(teacher, first_views(s)) for s in (samples, mirrored))
    assert not torch.allclose(one[0]["image_scores"], other[0]["image_scores"])  # a single view differs


@HEADS
def test_averages_and_detections_equal_numpy(heads: str) -> None:
    teacher, samples = make_teacher(heads), make_samples()
    refinements = getattr(teacher.roi_heads, "refinement_streams", ())
    outputs = run(ImageModelWithTTA(teacher, flip=True), samples)
    for sample, output in zip(samples, outputs, strict=True):
        image_level, region_level = [], []
        for view in (*sample["views"], *map(mirrored_view, sample["views"])):
            with torch.no_grad():
                _, predictions = teacher.predict_regions([view["image"]], [view["proposals"]])
                refined = [softmax(stream(predictions.embeddings).numpy(), 1)[:, :-1] for stream in refinements]
            streams = softmax(predictions.class_logits.numpy(), 1) * softmax(predictions.detection_logits.numpy(), 0)
            image_level.append(streams.sum(axis=0))
            region_level.append(np.mean(refined, axis=0) if refined else streams)
        np.testing.assert_allclose(output["image_scores"].numpy(), np.mean(image_level, axis=0), rtol=1e-4)
        scores = np.mean(region_level, axis=0)
        boxes = sample["views"][0]["proposals"].proposal_boxes.tensor
        expected = [
            (scores[i, c], c, *(boxes[i].numpy() * np.array([120, 90, 120, 90]) / 64))
            for c in range(CLASSES)
            for i in nms(boxes, torch.from_numpy(scores[:, c]), 0.4)
            if scores[i, c] > 0.00001
        ]
        expected = np.array(sorted(expected, reverse=True))
        found = output["instances"]
        np.testing.assert_allclose(found.scores.numpy(), expected[:, 0], rtol=1e-3)
        assert found.pred_classes.tolist() == expected[:, 1].tolist()
        np.testing.assert_allclose(found.pred_boxes.tensor.numpy(), expected[:, 2:], rtol=1e-4, atol=1e-3)


def test_probabilities_of_a_student_are_averaged(tmp_path) -> None:
    student, samples = make_classifier(tmp_path), make_samples()
    for sample in samples:
        sample["views"] = [{"image": view["image"]} for view in sample["views"]]
    averaged = run(ImageModelWithTTA(student, flip=True), samples)
    views = [[sample["views"][i] for sample in samples] for i in range(2)]
    views += [[mirrored_view(view) for view in seen] for seen in views]
    expected = torch.stack([torch.stack([o["image_scores"] for o in run(student, view)]) for view in views]).mean(dim=0)
    torch.testing.assert_close(torch.stack([o["image_scores"] for o in averaged]), expected)
    assert expected.std() > 0.01


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**31))
def test_pseudo_labels_and_loss_equal_a_loop_over_regions(r: int, c: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 60, (r, 2))
    boxes = np.hstack([low, low + generator.uniform(5, 60, (r, 2))])
    scores, target = generator.random((r, c)), generator.choice([1, 0, -1], c, p=[0.5, 0.2, 0.3])
    arrays = torch.tensor(boxes), torch.tensor(scores), torch.tensor(target)
    labels, weights = oicr_pseudo_labels(*arrays)
    overlaps = box_iou(torch.tensor(boxes), torch.tensor(boxes)).numpy()
    for region in range(r):
        best_overlap, expected_label, expected_weight = -1.0, c, 0.0
        for index in np.flatnonzero(target == 1):
            top = int(np.argmax(scores[:, index]))
            iou = overlaps[region, top]
            if iou > best_overlap:
                best_overlap, expected_weight = iou, scores[top, index]
                expected_label = index if iou >= 0.5 else c
        for index in np.flatnonzero(target == -1):
            iou = overlaps[region, np.argmax(scores[:, index])]
            if iou >= 0.5 and iou > best_overlap:
                expected_weight = 0.0
        assert labels[region] == expected_label
        assert weights[region] == pytest.approx(expected_weight)
    logits = generator.normal(size=(r, c + 1))
    loss = -(weights.numpy() * log_softmax(logits, axis=1)[np.arange(r), labels.numpy()]).mean()
    assert oicr_refinement_loss(torch.tensor(logits), labels, weights).item() == pytest.approx(loss, abs=1e-9)


def test_each_refinement_learns_only_from_labels_and_the_previous_refinement() -> None:
    teacher = make_teacher("OICRHeads").train()
    losses = teacher(make_batch())
    assert losses.keys() == {"loss_image", "loss_refinement_1", "loss_refinement_2", "loss_refinement_3"}
    losses["loss_refinement_2"].backward()
    first, second, third = teacher.roi_heads.refinement_streams
    assert second.weight.grad.abs().sum() > 0
    assert first.weight.grad is third.weight.grad is teacher.roi_heads.class_stream.weight.grad is None
    losses = teacher([{**sample, "labels": []} for sample in make_batch()])
    assert losses["loss_refinement_1"] == losses["loss_refinement_2"] == 0 and losses["loss_image"] > 0


def test_the_second_refinement_learns_from_the_scores_of_the_first() -> None:
    teacher = make_teacher("OICRHeads")

    def second_loss() -> float:
        torch.manual_seed(0)  # the same dropout
        with torch.no_grad():
            return teacher.train()(make_batch())["loss_refinement_2"].item()

    before = second_loss()
    nn.init.normal_(teacher.roi_heads.class_stream.weight, std=3.0)
    assert second_loss() == before
    nn.init.normal_(teacher.roi_heads.refinement_streams[0].weight, std=3.0)
    assert second_loss() != before


def test_refined_scores_are_float32_in_mixed_precision() -> None:
    batch, teacher = make_batch(), make_teacher("OICRHeads")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        _, predictions = teacher.predict_regions([s["image"] for s in batch], [s["proposals"] for s in batch])
        logits = teacher.roi_heads.refinement_logits(predictions)
        scores = teacher.roi_heads.detection_scores(predictions)
    assert predictions.embeddings.dtype == torch.bfloat16
    assert {x.dtype for x in (*logits, *scores)} == {torch.float32}


@pytest.mark.parametrize("pooling", ["average", "max", "fc"])
def test_logits_of_a_classifier_follow_from_its_pooling(pooling: str) -> None:
    torch.manual_seed(0)
    head = ClassifierHead(input_shape={"map": ShapeSpec(channels=4)}, num_classes=3, pooling=pooling, fc_dim=5).eval()
    features = np.random.default_rng(0).normal(size=(2, 4, 14, 14)).astype(np.float32)
    if pooling == "fc":
        x = features.reshape(2, 4, 7, 2, 7, 2).max((3, 5)).reshape(2, -1)
        for layer in (head.fully_connected.fc6, head.fully_connected.fc7):
            x = np.maximum(x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy(), 0)
    else:
        x = features.mean((2, 3)) if pooling == "average" else features.max((2, 3))
    expected = x @ head.linear.weight.detach().numpy().T + head.linear.bias.detach().numpy()
    actual = head({"map": torch.from_numpy(features)})
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=1e-4, atol=1e-6)
