"""What is left of a teacher's word when a part of the regions is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlickd.distillation import RegionKnowledge, SoftLabelDistiller, TeacherKnowledge, select_regions
from mlickd.distillation.feature import roi_feature_loss
from mlickd.modeling.roi_heads import region_scores


@given(st.integers(1, 8), st.sampled_from(["teacher", "proposal", "uniform"]), st.booleans(), st.integers(0, 2**31))
def test_what_remains_is_what_a_selection_from_the_rest_weighs(count, weight, normalize, seed) -> None:
    """Without suppression and limit, R' is every region, and so it stays when some leave."""
    generator = np.random.default_rng(seed)
    class_logits, detection_logits = torch.from_numpy(generator.normal(size=(2, count, 3), scale=2).astype(np.float32))
    boxes, objectness = torch.rand(count, 4), torch.from_numpy(generator.random(count, dtype=np.float32))
    rule = {"weight": weight, "normalize": normalize, "nms_thresh": 1.0, "top_k": 0}
    scores = region_scores(class_logits, detection_logits)
    selected, weights = select_regions(boxes, scores, objectness, **rule)
    features = {"a": torch.arange(count, dtype=torch.float32)[selected][:, None]}
    whole = RegionKnowledge(class_logits, detection_logits, selected, weights, features, {"a": (2, 2)}, weights * 2)

    in_view = torch.from_numpy(np.flatnonzero(generator.random(count) < 0.6))
    part = whole.restricted(in_view, weights_of_streams=weight == "teacher", normalize=normalize)
    rest = region_scores(class_logits[in_view], detection_logits[in_view])
    expected, s = select_regions(boxes[in_view], rest, objectness[in_view], **rule)
    assert sorted(part.selected.tolist()) == sorted(expected.tolist())
    ours = dict(zip(part.selected.tolist(), part.weights.tolist(), strict=True))
    assert [ours[i] for i in expected.tolist()] == pytest.approx(s.tolist(), rel=1e-5, abs=1e-30)
    # Features and their factors stay with their regions.
    assert part.features["a"][:, 0].tolist() == in_view[part.selected].tolist()
    assert len(part.proposal_weights) == len(part.selected)


def test_pooled_maps_are_flipped_and_vectors_are_not() -> None:
    maps, vectors = torch.rand(2, 3, 4, 4), torch.rand(2, 3)
    known = RegionKnowledge(torch.rand(2, 5), torch.rand(2, 5), features={"maps": maps, "vectors": vectors})
    mirrored = known.mirrored().features
    np.testing.assert_array_equal(mirrored["maps"], maps.numpy()[..., ::-1])
    assert torch.equal(mirrored["vectors"], vectors)


@pytest.mark.parametrize("loss", ["l2", "bce"])
def test_an_image_of_no_knowledge_adds_nothing_to_the_soft_loss(loss: str) -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    scores = [TeacherKnowledge(torch.rand(4)), TeacherKnowledge(None), TeacherKnowledge(torch.rand(4))]
    distiller = SoftLabelDistiller(loss=loss, loss_weight=2.0)
    total = distiller(logits, scores)
    apart = sum(distiller(logits[i : i + 1], scores[i : i + 1]) for i in (0, 2))
    torch.testing.assert_close(total, apart / 3)
    total.backward()
    assert not logits.grad[1].any() and logits.grad[0].any()


def test_a_batch_without_a_region_has_a_feature_loss_of_0_that_can_be_derived() -> None:
    student = torch.randn(0, 3, 2, 2, requires_grad=True)
    loss = roi_feature_loss(torch.zeros(0, 3, 2, 2), student, torch.zeros(0), [0, 0])
    loss.backward()
    assert loss.item() == 0 and student.grad.shape == student.shape
