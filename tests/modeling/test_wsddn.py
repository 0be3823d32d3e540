"""The heads of WSDDN against NumPy."""

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torchvision.ops import roi_pool

from mlickd.modeling.roi_heads import VGGBoxHead, WSDDNHeads, normalize_features, region_scores
from mlickd.modeling.roi_heads.wsddn import mix_with_context

CHANNELS, STRIDE, CLASSES = 4, 8, 3


def make_heads(
    score_weighting: str = "score", dropout: float = 0.5, context_weight: float = 0.0, feature_norm: float = 0.0
) -> WSDDNHeads:
    torch.manual_seed(0)
    return WSDDNHeads(
        in_feature="conv5",
        pooler=ROIPooler(output_size=2, scales=(1 / STRIDE,), sampling_ratio=0, pooler_type="ROIPool"),
        box_head=VGGBoxHead(ShapeSpec(channels=CHANNELS, height=2, width=2), fc_dim=8, dropout=dropout),
        num_classes=CLASSES,
        score_weighting=score_weighting,
        init_std=0.5,
        context_weight=context_weight,
        context_channels=CHANNELS,
        feature_norm=feature_norm,
    )


def make_proposals(count: int, seed: int = 0, side: int = 64) -> Instances:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values * side
    proposals = Instances((side, side))
    proposals.proposal_boxes = Boxes(corners.flatten(start_dim=1))
    proposals.objectness = torch.rand(count, generator=generator)
    return proposals


@settings(max_examples=30)
@given(st.integers(1, 8), st.integers(1, 5), st.floats(0.3, 5), st.integers(0, 2**31))
def test_region_scores_are_the_product_of_two_softmaxes(r: int, c: int, temperature: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    classes, regions = generator.normal(size=(2, r, c))
    expected = softmax(classes / temperature, 1) * softmax(regions / temperature, 0)
    actual = region_scores(torch.tensor(classes), torch.tensor(regions), temperature).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-9)
    assert (actual.sum(axis=0) <= 1 + 1e-9).all()


@pytest.mark.parametrize(("weighting", "factor"), [("score", lambda s: s), ("none", lambda s: 1)])
def test_forward_and_loss_follow_the_formulas(weighting: str, factor) -> None:
    heads = make_heads(weighting, dropout=0.0).train()
    maps = torch.randn(2, CHANNELS, 8, 8)
    proposals = [make_proposals(5, 1), make_proposals(3, 2)]
    targets = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    predictions = heads.predict_regions({"conv5": maps}, proposals)
    image_scores, losses = predictions.image_scores(), heads.losses(predictions, proposals, targets)

    weights = {name: value.detach().double().numpy() for name, value in heads.named_parameters()}
    expected = []
    for n, regions in enumerate(proposals):
        pooled = roi_pool(maps[n : n + 1], [regions.proposal_boxes.tensor], 2, 1 / STRIDE).flatten(1).numpy()
        x = pooled * np.array([[factor(s)] for s in regions.objectness.numpy()])
        for layer in ("fc6", "fc7"):
            x = np.maximum(x @ weights[f"box_head.{layer}.weight"].T + weights[f"box_head.{layer}.bias"], 0)
        streams = [x @ weights[f"{k}_stream.weight"].T + weights[f"{k}_stream.bias"] for k in ("class", "detection")]
        expected.append((softmax(streams[0], 1) * softmax(streams[1], 0)).sum(axis=0))
    p, y = np.stack(expected), targets.numpy()
    np.testing.assert_allclose(image_scores.detach().numpy(), p, rtol=1e-4)
    loss = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum() / 2
    assert losses["loss_image"].item() == pytest.approx(loss, rel=1e-4)


@given(st.floats(0.3, 5), st.floats(0, 1), st.integers(0, 2**31))
def test_a_temperature_divides_the_logit_of_the_context(temperature: float, weight: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores, cells = generator.random(CLASSES), 4 * generator.normal(size=(CLASSES, 2, 3))
    expected = (1 - weight) * scores + weight / (1 + np.exp(-cells.mean((1, 2)) / temperature))
    found = mix_with_context(torch.tensor(scores), torch.tensor(cells), weight, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_context_is_mixed_into_image_scores_and_has_its_own_loss() -> None:
    plain, heads = (make_heads(dropout=0.0, context_weight=weight).train() for weight in (0.0, 0.25))
    assert len(heads.state_dict()) == len(plain.state_dict()) + 2
    plain.load_state_dict(heads.state_dict(), strict=False)
    maps, proposals = torch.randn(2, CHANNELS, 8, 8), [make_proposals(5, 1), make_proposals(3, 2)]
    targets = torch.tensor([[1.0, 0, -1], [0, 1, 1]])
    outputs = [each.predict_regions({"conv5": maps}, proposals) for each in (plain, heads)]
    stream_scores, image_scores = (predictions.image_scores() for predictions in outputs)
    losses = heads.losses(outputs[1], proposals, targets)
    stream_losses = plain.losses(outputs[0], proposals, targets)
    classifier = heads.context_classifier
    logits = maps.mean(dim=(2, 3)).numpy() @ classifier.weight.detach().numpy().T + classifier.bias.detach().numpy()
    p, y = 1 / (1 + np.exp(-logits)), targets.numpy()
    expected = 0.75 * stream_scores.detach().numpy() + 0.25 * p
    np.testing.assert_allclose(image_scores.detach().numpy(), expected, rtol=1e-4)
    assert losses["loss_image"] == stream_losses["loss_image"]
    loss = -np.where(y == 1, np.log(p), np.log(1 - p))[y >= 0].sum() / 2
    assert losses["loss_context"].item() == pytest.approx(loss, rel=1e-4)
    without = heads.predict_regions({"conv5": maps}, [proposals[0], make_proposals(0, 1)]).image_scores()
    np.testing.assert_allclose(without[1].detach().numpy(), p[1], rtol=1e-4)


def test_features_of_regions_and_the_mean_of_the_map_are_normalized_and_the_context_is_centered() -> None:
    maps, proposals = torch.randn(2, CHANNELS, 8, 8), [make_proposals(5, 1), make_proposals(3, 2)]
    heads = make_heads(dropout=0.0, context_weight=0.25, feature_norm=20.0).train()
    others = torch.randn(6, CHANNELS, 8, 8)
    for batch in (others[:2], others[2:4], others[4:]):
        heads.predict_regions({"conv5": batch}, proposals)
    predictions = heads.eval().predict_regions({"conv5": maps}, proposals)
    pooled = heads.pooler([maps], [p.proposal_boxes for p in proposals])
    regions = heads.box_head(pooled * heads.proposal_weights(proposals)[:, None, None, None])

    def root(x: torch.Tensor) -> np.ndarray:
        return np.sign(x.detach().numpy()) * np.sqrt(np.abs(x.detach().numpy()))

    def normalize(x: np.ndarray) -> np.ndarray:
        return 20 * x / np.linalg.norm(x, axis=1, keepdims=True)

    context_mean = normalize(root(others).mean(axis=(2, 3))).mean(axis=0)
    for layer, x, mean, logits in (
        (heads.class_stream, root(regions), 0, predictions.class_logits),
        (heads.detection_stream, root(regions), 0, predictions.detection_logits),
        (
            heads.context_classifier,
            root(maps).mean(axis=(2, 3)),
            context_mean,
            predictions.context_maps.mean(dim=(2, 3)),
        ),
    ):
        expected = (normalize(x) - mean) @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        np.testing.assert_allclose(logits.detach().numpy(), expected, rtol=1e-3, atol=1e-3)
    zeros = torch.zeros(2, 3, requires_grad=True)
    normalize_features(zeros, 20.0).sum().backward()
    assert torch.isfinite(zeros.grad).all(), "a backbone that learns may have regions without activation"
