"""The losses against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlickd.config import default_config
from mlickd.modeling.losses import build_label_loss, multilabel_bce, wsddn_loss


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**31))
def test_both_losses_are_summed_over_classes_and_averaged_over_images(n: int, c: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, c)) * 2
    targets = generator.integers(-1, 2, size=(n, c)).astype(np.float64)
    probabilities = 1 / (1 + np.exp(-logits))
    log_likelihoods = np.where(targets == 1, np.log(probabilities), np.log(1 - probabilities))
    expected = -log_likelihoods[targets >= 0].sum() / n
    from_logits = multilabel_bce(torch.tensor(logits), torch.tensor(targets))
    from_scores = wsddn_loss(torch.tensor(probabilities), torch.tensor(targets))
    assert from_logits.item() == pytest.approx(expected, rel=1e-6, abs=1e-9)
    # In float32, the logarithm of a probability near 1 has few digits.
    assert from_scores.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


EXPONENTS = st.just(0.0) | st.floats(1, 5)


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 6), EXPONENTS, EXPONENTS, st.floats(0, 0.2), st.integers(0, 2**31))
def test_asymmetric_loss(n: int, c: int, positive: float, negative: float, clip: float, seed: int) -> None:
    """Equations 6 and 7 of Ridnik et al. 2021, for known labels."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, c)) * 2
    targets = generator.integers(-1, 2, size=(n, c)).astype(np.float64)
    p = 1 / (1 + np.exp(-logits))
    shifted = np.maximum(p - clip, 0)
    losses = np.where(targets == 1, (1 - p) ** positive * np.log(p), shifted**negative * np.log(1 - shifted))
    cfg = default_config()
    cfg.MODEL.LABEL_LOSS.merge_from_list(["NAME", "asl", "GAMMA_POS", positive, "GAMMA_NEG", negative, "CLIP", clip])
    inputs = torch.tensor(logits, requires_grad=True)
    actual = build_label_loss(cfg)(inputs, torch.tensor(targets))
    assert actual.item() == pytest.approx(-losses[targets >= 0].sum() / n, rel=1e-4, abs=1e-6)
    actual.backward()
    assert inputs.grad.isfinite().all() and not inputs.grad[torch.tensor(targets) < 0].any()


def test_scores_of_zero_and_one_are_clamped() -> None:
    scores = torch.tensor([[0.0, 1.0, 1.0 + 1e-6]], requires_grad=True)
    loss = wsddn_loss(scores, torch.tensor([[1.0, 0.0, 1.0]]))
    assert loss.item() == pytest.approx(-2 * np.log(1e-4) - np.log(1 - 1e-4), rel=1e-3)
    loss.backward()
    assert scores.grad[0].tolist() == pytest.approx([-1e4, 1e4, -1], rel=1e-3), "a missed class is still learned"
