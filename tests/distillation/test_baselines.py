"""The distillers that the method is compared with, against statements of their formulas in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.small_models import make_batch, save_teacher, student_config
from mlickd.distillation import HintonDistiller, LiveTeacher, MLDDistiller, TeacherKnowledge
from mlickd.distillation.binary_logits import binary_divergence
from mlickd.distillation.feature_maps import attention_transfer_loss, hint_loss
from mlickd.distillation.label_embeddings import (
    class_activation_embeddings,
    label_embedding_loss,
    region_embeddings,
    structure_loss,
)
from mlickd.distillation.request import spatial_attention
from mlickd.errors import InputError

SEEDS = st.integers(0, 2**31)
# Each baseline as options on the small student.
FITNETS = ("KD.FEATURE.DISTILLER", "FitNetsDistiller")
ATTENTION = ("KD.FEATURE.DISTILLER", "AttentionTransferDistiller")
BESIDE_LABELS = ("KD.PREDICTION.FEATURE_LOSS", True, "KD.PREDICTION.WEIGHT", 0.0)
LED = ("KD.FEATURE.DISTILLER", "LabelEmbeddingDistiller", *BESIDE_LABELS, "MODEL.CLASSIFIER.POOLING", "max")
METHODS = {
    "fitnets": ("feature", FITNETS, "loss_feature"),
    "attention transfer in stage 1": ("feature", ATTENTION, "loss_feature"),
    "attention transfer": ("prediction", (*ATTENTION, *BESIDE_LABELS), "loss_feature"),
    "hinton": ("prediction", ("KD.PREDICTION.DISTILLER", "HintonDistiller"), "loss_soft_label"),
    "mld": ("prediction", ("KD.PREDICTION.DISTILLER", "MLDDistiller"), "loss_soft_label"),
    "led": ("prediction", LED, "loss_feature"),
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"))


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 5), st.floats(0.3, 6), SEEDS)
def test_divergence_is_that_of_two_valued_distributions(n: int, c: int, temperature: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    teacher, logits = generator.uniform(0.01, 0.99, (n, c)), generator.normal(size=(n, c)) * 3
    softened = 1 / (1 + np.exp(-np.log(teacher / (1 - teacher)) / temperature))
    student = 1 / (1 + np.exp(-logits / temperature))
    expected = 0.0
    for p, q in ((softened, student), (1 - softened, 1 - student)):
        expected += (p * np.log(p / q)).sum() / n
    actual = binary_divergence(torch.tensor(teacher), torch.tensor(logits), temperature)
    assert actual.item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_mld_has_no_temperature_and_hinton_s_leaves_the_gradient_as_it_is(teacher: Path) -> None:
    logits = torch.tensor([[0.3, -2.0], [1.0, 4.0]], requires_grad=True)
    knowledge = [TeacherKnowledge(torch.tensor(scores)) for scores in ([0.9, 0.2], [0.5, 1.0])]
    scores = torch.stack([k.image_scores for k in knowledge])
    cfg = student_config(teacher, "prediction", "KD.PREDICTION.TEMPERATURE", 4.0, "KD.PREDICTION.WEIGHT", 3.0)
    torch.testing.assert_close(MLDDistiller(cfg)(logits, knowledge), 3 * binary_divergence(scores, logits, 1.0))
    expected = 3 * 16 * binary_divergence(scores, logits, 4.0)
    torch.testing.assert_close(HintonDistiller(cfg)(logits, knowledge), expected)
    # For large T the divergence is that of logits: T^2 KL -> (z - t)^2 / 8, whose gradient does not shrink.
    moderate = [TeacherKnowledge(torch.tensor([0.9, 0.2])), TeacherKnowledge(torch.tensor([0.5, 0.7]))]
    teacher = torch.stack([k.image_scores for k in moderate]).logit()
    (gradient,) = torch.autograd.grad(HintonDistiller(temperature=50.0)(logits, moderate), logits)
    torch.testing.assert_close(gradient, (logits - teacher).detach() / 4 / 2, rtol=2e-2, atol=2e-3)


def test_scores_of_zero_and_one_are_finite_and_unknown_images_add_nothing() -> None:
    logits = torch.tensor([[50.0, -50.0], [1.0, 2.0]], requires_grad=True)
    sure, unknown = TeacherKnowledge(torch.tensor([0.0, 1.0 + 1e-6])), TeacherKnowledge(None)
    distiller = HintonDistiller(temperature=1.0)
    loss = distiller(logits, [sure, unknown])
    assert torch.isfinite(loss)
    torch.testing.assert_close(loss, distiller(logits[:1], [sure]) / 2)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all() and not gradient[1].any()
    assert distiller(logits, [unknown, unknown]).item() == 0


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), SEEDS)
def test_hint_and_attention_are_the_equations_of_their_papers(n: int, d: int, side: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    teacher, student = generator.normal(size=(2, n, d, side, side + 1))
    hint = sum(((t - s) ** 2).sum() / (side * (side + 1)) for t, s in zip(teacher, student, strict=True)) / (2 * n)
    assert hint_loss(torch.tensor(teacher), torch.tensor(student)).item() == pytest.approx(hint)

    def attention(feature_map: np.ndarray) -> np.ndarray:
        energy = (feature_map**2).sum(axis=0)
        return energy / np.sqrt((energy**2).sum())

    expected = sum(
        np.sqrt(((attention(t) - attention(s)) ** 2).sum()) for t, s in zip(teacher, student, strict=True)
    ) / (2 * n)
    maps = [spatial_attention(torch.tensor(m)) for m in (teacher, student)]
    assert attention_transfer_loss(*maps).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_attention_of_a_map_of_zeros_is_zero() -> None:
    assert not spatial_attention(torch.zeros(2, 3, 4, 4)).any()


def structure(teacher: np.ndarray, student: np.ndarray) -> float:
    """Huber loss of relative distances, pair by pair."""
    count = len(teacher)
    distances = []
    for embeddings in (teacher, student):
        pairs = np.array([[np.linalg.norm(a - b) for b in embeddings] for a in embeddings])
        distances.append(pairs / (pairs.sum() / (count * (count - 1))))
    differences = np.abs(distances[0] - distances[1])
    return np.where(differences < 1, differences**2 / 2, differences - 0.5).sum() / count


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, 4), SEEDS)
def test_label_embeddings_are_compared_among_positive_labels(n: int, c: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    teacher, student = generator.normal(size=(n, c, 6)), generator.normal(size=(n, c, 3))
    positive = generator.random((n, c)) < 0.6
    expected = [0.0, 0.0]
    for label in range(c):
        images = np.flatnonzero(positive[:, label])
        if len(images) > 1:
            expected[0] += structure(teacher[images, label], student[images, label]) / n
    for image in range(n):
        labels = np.flatnonzero(positive[image])
        if len(labels) > 1:
            expected[1] += structure(teacher[image, labels], student[image, labels]) / n
    actual = label_embedding_loss(torch.tensor(teacher), torch.tensor(student), torch.tensor(positive))
    assert [loss.item() for loss in actual] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_structure_ignores_scale_place_and_width() -> None:
    embeddings = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    wider = torch.cat([3 * embeddings + 1, torch.zeros(4, 2)], dim=1)
    assert structure_loss(embeddings, wider).item() == pytest.approx(0, abs=1e-9)


def test_embeddings_that_are_all_the_same_have_a_finite_gradient() -> None:
    student = torch.ones(3, 4, requires_grad=True)
    loss = structure_loss(torch.randn(3, 2, generator=torch.Generator().manual_seed(1)), student)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()


def test_embeddings_of_a_label_are_means_by_where_it_is() -> None:
    generator = np.random.default_rng(1)
    features, scores = generator.normal(size=(5, 4, 2, 2)), generator.random((5, 3))
    expected = (scores / scores.sum(axis=0)).T @ features.mean(axis=(2, 3))
    actual = region_embeddings(torch.tensor(features, dtype=torch.float32), torch.tensor(scores, dtype=torch.float32))
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5)
    assert not region_embeddings(torch.zeros(0, 4), torch.zeros(0, 3)).any()

    feature_map, classifier = generator.normal(size=(2, 4, 2, 3)), generator.normal(size=(3, 4))
    cells = feature_map.reshape(2, 4, 6)
    where = np.exp(np.einsum("cd,ndk->nck", classifier, cells))
    expected = np.einsum("nck,ndk->ncd", where / where.sum(axis=2, keepdims=True), cells)
    actual = class_activation_embeddings(torch.tensor(feature_map), torch.tensor(classifier))
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-4, atol=1e-5)


def with_knowledge(cfg, **sizes: int) -> list[dict]:
    batch = make_batch(**sizes)
    for sample, knowledge in zip(batch, LiveTeacher(cfg)(batch), strict=True):
        sample["knowledge"] = knowledge
    return batch


@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_the_student_alone(teacher: Path, name: str) -> None:
    stage, options, loss_name = METHODS[name]
    cfg = student_config(teacher, stage, *options)
    torch.manual_seed(1)
    model = build_model(cfg)
    batch = with_knowledge(cfg, count=4)  # the structure of two is always the same
    loss = model(batch)[loss_name]
    assert torch.isfinite(loss) and loss.item() > 0
    assert not any(tensor.requires_grad for sample in batch for tensor in sample["knowledge"]._tensors())
    loss.backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("student.backbone.") for name in reached)
    if stage == "feature":
        assert not any(name.startswith("student.head.") for name in reached)


@pytest.mark.parametrize("options", [FITNETS, ATTENTION])
def test_a_student_that_equals_its_teacher_has_no_loss_of_maps(teacher: Path, options: tuple) -> None:
    cfg = student_config(teacher, "feature", *options, "INPUT.SIZES_TRAIN", (64,))
    model = build_model(cfg)
    weights = torch.load(teacher, weights_only=True)["model"]
    backbone = {k.removeprefix("backbone."): v for k, v in weights.items() if k.startswith("backbone.")}
    model.student.backbone.load_state_dict(backbone)
    batch = with_knowledge(cfg, side=64, teacher_side=64)
    assert model(batch)["loss_feature"].item() == pytest.approx(0, abs=1e-4)
    with torch.no_grad():
        model.student.backbone.conv5_2.bias[0] += 1.0
    assert model(batch)["loss_feature"].item() > 1e-3


def test_a_student_that_answers_as_its_teacher_has_no_loss_of_logits(teacher: Path) -> None:
    scores = torch.tensor([[0.9, 0.2], [0.5, 0.01]])
    knowledge = [TeacherKnowledge(row) for row in scores]
    for distiller in (MLDDistiller(temperature=1.0), HintonDistiller(temperature=3.0)):
        assert distiller(scores.logit(), knowledge).item() == pytest.approx(0, abs=1e-6)


def test_a_network_of_another_width_is_regressed_and_attention_asks_for_none(teacher: Path) -> None:
    for options, regressors in ((FITNETS, {"feature_distiller.layers.0.adapter.weight"}), (ATTENTION, set())):
        cfg = student_config(teacher, "feature", *options, "MODEL.VGG.WIDTH", 0.2)
        model = build_model(cfg)
        assert {n for n, _ in model.named_parameters() if n.startswith("feature") and "weight" in n} == regressors
        assert model(with_knowledge(cfg))["loss_feature"].item() > 0


def test_label_embeddings_need_labels_and_the_map_that_is_classified(teacher: Path) -> None:
    with pytest.raises(InputError, match="LabelEmbeddingDistiller needs labels; give it KD.METHOD_STAGES"):
        build_model(student_config(teacher, "feature", *LED))
    with pytest.raises(InputError, match="POOLING fc: label embeddings come from the classifier on the map"):
        build_model(student_config(teacher, "prediction", *LED, "MODEL.CLASSIFIER.POOLING", "fc"))
    layers = ("MODEL.VGG.OUT_FEATURES", ("conv4", "conv5"), "KD.FEATURE.LAYERS", ("conv5:conv4",))
    with pytest.raises(InputError, match="the map that the student classifies: '<teacher layer>:conv5'"):
        build_model(student_config(teacher, "prediction", *LED, *layers, "MODEL.CLASSIFIER.IN_FEATURE", "conv5"))


def test_a_layer_that_a_network_has_not_is_named(teacher: Path) -> None:
    with pytest.raises(InputError, match="the teacher's backbone does not return 'conv9'; name one of conv5"):
        build_model(student_config(teacher, "feature", *FITNETS, "KD.FEATURE.LAYERS", ("conv9:conv5",)))
