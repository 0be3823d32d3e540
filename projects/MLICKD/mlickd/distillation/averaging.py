"""One word of a teacher that has looked at an image several times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log

import torch

from mlickd.modeling.roi_heads import RegionPredictions

__all__ = ["averaged_streams"]


def averaged_streams(predictions: Sequence[RegionPredictions]) -> RegionPredictions:
    """Logits of both streams whose softmaxes are the means of the softmaxes over several views.

    Both stay logits, so that all that is done with those of one view can be done with them: temperatures, which then
    apply to the means, and what is left of the regions in a crop. A region's score is the product of the two means.
    (Evaluation takes the mean of the products, see :class:`mlickd.modeling.ImageModelWithTTA`.)

    Args:
        predictions: of the same images and regions in each view.

    Returns:
        The first, with these logits.
    """
    first = predictions[0]
    classes = [p.class_logits.log_softmax(dim=1) for p in predictions]
    regions = [
        torch.cat([of_image.log_softmax(dim=0) for of_image in p.detection_logits.split(p.counts)]) for p in predictions
    ]
    # Their softmaxes are the means themselves: over the classes, and over the regions of an image, both sum to one.
    return replace(first, class_logits=_log_mean(classes), detection_logits=_log_mean(regions))


def _log_mean(log_probabilities: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(log_probabilities)).logsumexp(dim=0) - log(len(log_probabilities))
