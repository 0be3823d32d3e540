"""Multi-label losses: scalars, summed over the classes and averaged over the images, as in the paper."""

from collections.abc import Callable

import torch
from detectron2.config import CfgNode
from torch.nn import functional as F

# The loss of WSDDN clamps image scores to [EPSILON, 1 - EPSILON], as in the authors' release.
EPSILON = 1e-4


def multilabel_bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the binary cross-entropy of ``sigmoid(logits)`` with labels (L_p of the paper) or with soft labels.

    Args:
        logits: (N, C).
        targets: (N, C) in [0, 1], or -1 for an ignored label.
    """
    known = (targets >= 0).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets.clamp(min=0), known, reduction="sum") / len(logits)


def build_label_loss(cfg: CfgNode) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the label loss of ``MODEL.LABEL_LOSS``, a function of logits and targets (N, C).

    ``bce`` is :func:`multilabel_bce`. ``asl`` is the asymmetric loss (Ridnik et al. 2021, equations 6 and 7), which
    gives little weight to easy negative labels, with timm's implementation.
    """
    options = {key.lower(): value for key, value in cfg.MODEL.LABEL_LOSS.items()}
    if options.pop("name") == "bce":
        return multilabel_bce
    from timm.loss import AsymmetricLossMultiLabel  # here, because the import takes a third of a second

    asymmetric = AsymmetricLossMultiLabel(**options, reduction="none")

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (asymmetric(logits, targets.clamp(min=0)) * (targets >= 0)).sum() / len(logits)

    return loss


def wsddn_loss(image_scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the loss of WSDDN (Bilen & Vedaldi 2016) on image scores that are sums over proposals.

    Args:
        image_scores: (N, C) in [0, 1] up to rounding; clamped to ``[EPSILON, 1 - EPSILON]``. The gradient of a clamped
            score is the gradient at the limit, so a missed class is still learned.
        targets: (N, C) with 1, 0, and -1 for ignored labels.
    """
    scores = image_scores.float()
    scores = scores + (scores.clamp(EPSILON, 1 - EPSILON) - scores).detach()
    positive = targets.clamp(min=0)
    # torch's function for probabilities does not support mixed precision.
    loss = -(positive * scores.log() + (1 - positive) * (1 - scores).log())
    return (loss * (targets >= 0)).sum() / len(image_scores)
