"""Losses of the distillers against their formulas in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.special import expit, huber, logit, softmax

from mlickd.distillation import HintonDistiller, SoftLabelDistiller, TeacherKnowledge
from mlickd.distillation.distillers.feature_maps import spatial_attention
from mlickd.distillation.distillers.image_scores import binary_divergence
from mlickd.distillation.distillers.label_embeddings import (
    class_activation_embeddings,
    label_embedding_loss,
    region_embeddings,
    structure_loss,
)
from mlickd.distillation.distillers.roi_features import roi_feature_loss

SEEDS = st.integers(0, 2**31)


def knowledge_from(scores: np.ndarray | list) -> list[TeacherKnowledge]:
    return [TeacherKnowledge(torch.as_tensor(row)) for row in scores]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), SEEDS)
def test_feature_loss_is_the_equation_of_the_paper(counts: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    teacher, student = generator.normal(size=(2, sum(counts), 3, 2, 2))
    weights = generator.random(sum(counts))
    squares = (weights[:, None, None, None] * (teacher - student)) ** 2
    images = [part for part in np.split(squares, np.cumsum(counts)[:-1]) if len(part)]
    expected = sum(part.sum() / len(part) for part in images) / (2 * len(counts))
    inputs = torch.tensor(student, requires_grad=True)
    actual = roi_feature_loss(torch.tensor(teacher), inputs, torch.tensor(weights), counts)
    assert actual.item() == pytest.approx(expected)
    actual.backward()  # works without regions, too
    assert inputs.grad.shape == inputs.shape


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 5), st.floats(0.2, 6), st.floats(0, 3), SEEDS)
def test_soft_label_losses_equal_the_paper_and_the_release(n, c, temperature, weight, seed) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, c)) * 3
    teacher = generator.random((n, c))
    student = expit(logits / temperature)
    # -log(student) and -log(1 - student), also exact for large logits.
    positive, negative = np.logaddexp(0, -logits / temperature), np.logaddexp(0, logits / temperature)
    expected = {
        "l2": ((teacher - student) ** 2).sum() / (2 * n),
        "bce": (teacher * positive + (1 - teacher) * negative).sum() / n,
    }
    for loss, value in expected.items():
        distiller = SoftLabelDistiller(loss=loss, student_temperature=temperature, loss_weight=weight)
        actual = distiller(torch.tensor(logits), knowledge_from(teacher)).item()
        assert actual == pytest.approx(weight * value, rel=1e-6, abs=1e-9)


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 5), st.floats(0.3, 6), SEEDS)
def test_the_divergence_is_of_binary_distributions(n: int, c: int, temperature: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    teacher, logits = generator.uniform(0.01, 0.99, (n, c)), generator.normal(size=(n, c)) * 3
    softened, student = expit(logit(teacher) / temperature), expit(logits / temperature)
    expected = sum((p * np.log(p / q)).sum() / n for p, q in ((softened, student), (1 - softened, 1 - student)))
    actual = binary_divergence(torch.tensor(teacher), torch.tensor(logits), temperature)
    assert actual.item() == pytest.approx(expected, rel=1e-3, abs=1e-5)
    hinton = HintonDistiller(temperature=temperature, loss_weight=3.0)(torch.tensor(logits), knowledge_from(teacher))
    torch.testing.assert_close(hinton, 3 * temperature**2 * actual)
    equal = HintonDistiller(temperature=temperature)(torch.tensor(teacher).logit(), knowledge_from(teacher))
    assert equal.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "distiller", [SoftLabelDistiller(loss="l2"), SoftLabelDistiller(loss="bce"), HintonDistiller(temperature=1.0)]
)
def test_images_without_scores_are_left_out_and_extreme_scores_are_finite(distiller: torch.nn.Module) -> None:
    logits = torch.tensor([[50.0, -50.0], [1.0, 2.0], [0.5, 3.0]], requires_grad=True)
    knowledge = [*knowledge_from([[0.0, 1.0 + 1e-6]]), TeacherKnowledge(None), *knowledge_from([[0.2, 0.9]])]
    total = distiller(logits, knowledge)
    apart = sum(distiller(logits[i : i + 1], knowledge[i : i + 1]) for i in (0, 2))
    torch.testing.assert_close(total, apart / 3)
    total.backward()
    assert torch.isfinite(logits.grad).all() and not logits.grad[1].any() and logits.grad[2].any()
    assert distiller(logits, [TeacherKnowledge(None)] * 3).item() == 0


def test_the_attention_of_a_zero_map_is_zero() -> None:
    assert not spatial_attention(torch.zeros(2, 3, 4, 4)).any()


def structure(teacher: np.ndarray, student: np.ndarray) -> float:
    """Return the Huber loss between the distances of all pairs, each relative to the mean distance."""
    distances = [pdist(embeddings) for embeddings in (teacher, student)]
    teacher_ratio, student_ratio = (values / values.mean() for values in distances)
    return 2 * huber(1, teacher_ratio - student_ratio).sum() / len(teacher)  # each pair counts in both orders


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, 4), SEEDS)
def test_label_embeddings_are_compared_only_for_positive_labels(n: int, c: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    teacher, student = generator.normal(size=(n, c, 6)), generator.normal(size=(n, c, 3))
    positive = generator.random((n, c)) < 0.6
    columns = [(positive[:, label], label) for label in range(c) if positive[:, label].sum() > 1]
    rows = [(image, positive[image]) for image in range(n) if positive[image].sum() > 1]
    of_labels, of_images = (sum(structure(teacher[part], student[part]) for part in parts) for parts in (columns, rows))
    actual = label_embedding_loss(torch.tensor(teacher), torch.tensor(student), torch.tensor(positive))
    assert actual.item() == pytest.approx((of_labels + 10 * of_images) / n, rel=1e-6, abs=1e-9)


def test_the_structure_loss_ignores_scale_shift_and_width_and_has_finite_gradients() -> None:
    embeddings = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    wider = torch.cat([3 * embeddings + 1, torch.zeros(4, 2)], dim=1)
    assert structure_loss(embeddings, wider).item() == pytest.approx(0, abs=1e-9)
    equal = torch.ones(4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(structure_loss(embeddings, equal), equal)
    assert torch.isfinite(gradient).all()


def test_label_embeddings_are_weighted_means() -> None:
    generator = np.random.default_rng(1)
    features, scores = generator.normal(size=(5, 4, 2, 2)), generator.random((5, 3))
    expected = (scores / scores.sum(axis=0)).T @ features.mean(axis=(2, 3))
    actual = region_embeddings(torch.tensor(features, dtype=torch.float32), torch.tensor(scores, dtype=torch.float32))
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5)
    assert not region_embeddings(torch.zeros(0, 4), torch.zeros(0, 3)).any()

    feature_map, classifier = generator.normal(size=(2, 4, 2, 3)), generator.normal(size=(3, 4))
    cells = feature_map.reshape(2, 4, 6)
    attention = softmax(np.einsum("cd,ndk->nck", classifier, cells), axis=2)
    expected = np.einsum("nck,ndk->ncd", attention, cells)
    actual = class_activation_embeddings(torch.tensor(feature_map), torch.tensor(classifier))
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-4, atol=1e-5)
