"""Averaging over several views of an image at test time, for models that take proposals, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from .meta_arch import MultiLabelClassifier, WeaklySupervisedDetector

__all__ = ["ImageModelWithTTA", "mirrored_view"]


class ImageModelWithTTA(nn.Module):
    """A finished model that speaks by the mean of what it says of several views of each image.

    Detectron2's ``GeneralizedRCNNWithTTA`` merges boxes and refuses proposals. Here every view has the same regions, so
    that their scores are averaged region by region, as WSDDN (Bilen & Vedaldi 2016) and OICR (Tang et al. 2017) do over
    five scales and their mirror images; detections are chosen from the means. Of a classifier the means are those of
    its probabilities.

    Views are run one after the other: memory is that of the largest.
    """

    def __init__(self, model: WeaklySupervisedDetector | MultiLabelClassifier, *, flip: bool = True):
        """
        Args:
            model: the teacher or the plain student.
            flip: look at each view mirrored, too.
        """
        super().__init__()
        self.model = model
        self.flip = flip
        self.train(model.training)

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        """
        Args:
            batched_inputs: samples with ``views``, as :class:`mlickd.data.mapper.MultiScaleMapper` gives them: of every
                sample as many, the same regions in the same order in each. ``height`` and ``width`` of the original
                image are optional, as for the model.

        Returns:
            What the model returns at inference.
        """
        total, count = None, 0
        for views in self._views(batched_inputs):
            scores = self.model.view_scores(views)
            total = scores if total is None else [_added(a, b) for a, b in zip(total, scores, strict=True)]
            count += 1
        means = [{name: value / count for name, value in scores.items()} for scores in total]
        # Whatever the view, its boxes are scaled to the original image; the first has them as they are.
        return [
            self.model.from_view_scores({**sample, **sample["views"][0]}, scores)
            for sample, scores in zip(batched_inputs, means, strict=True)
        ]

    def _views(self, batched_inputs: Sequence[dict]) -> Iterator[list[dict]]:
        for views in zip(*(sample["views"] for sample in batched_inputs), strict=True):
            yield list(views)
            if self.flip:
                yield [mirrored_view(view) for view in views]


def mirrored_view(view: dict) -> dict:
    """The same image and regions, flipped horizontally.

    Args:
        view: with ``image`` (3, H, W) and optionally ``proposals``, in its pixels.
    """
    mirrored = {**view, "image": view["image"].flip(-1)}
    if "proposals" in view:
        proposals = view["proposals"]
        x0, y0, x1, y1 = proposals.proposal_boxes.tensor.unbind(dim=1)
        width = proposals.image_size[1]
        boxes = Boxes(torch.stack([width - x1, y0, width - x0, y1], dim=1))
        mirrored["proposals"] = Instances(proposals.image_size, proposal_boxes=boxes, objectness=proposals.objectness)
    return mirrored


def _added(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value + other[name] for name, value in one.items()}
