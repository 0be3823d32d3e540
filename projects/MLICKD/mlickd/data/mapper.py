"""From a record to what a model takes: the student's view of the image, the teacher's view, and the proposals."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from .proposals.maker import ProposalMaker
from .proposals.store import ProposalStore
from .reading import read_image
from .views import View

__all__ = ["MultiLabelMapper", "best_proposals"]


class MultiLabelMapper:
    """Decodes an image and makes its views; the image labels go along, boxes never do.

    The teacher's view has the same geometry as the student's at another size, and the proposals go through the
    transform of each, so that region i is the same region in both.
    """

    def __init__(
        self,
        *,
        image_format: str = "RGB",
        proposals: ProposalStore | ProposalMaker | None = None,
        top_k: int = 500,
        min_side: float = 0.0,
        teacher_size: int | None = None,
        teacher_format: str | None = None,
        dataset: str | None = None,
    ):
        """
        Args:
            image_format: ``RGB`` or ``BGR``.
            proposals: of the data set, or what makes them from an image; without it the samples have none.
            top_k: proposals used of an image, the best by score.
            min_side: proposals whose shorter side is below this many original pixels are left out.
            teacher_size: side of the teacher's view in pixels; without it there is none.
            teacher_format: its format, where it differs.
            dataset: name of the data set, which its samples then have: image ids are of one data set.
        """
        self.image_format = image_format
        self.proposals = proposals
        self.top_k = top_k
        self.min_side = min_side
        self.teacher_size = teacher_size
        self.teacher_format = teacher_format or image_format
        self.dataset = dataset

    def __call__(self, record: dict, view: View) -> dict:
        """
        Args:
            record: with ``file_name`` and ``image_id``.
            view: of the student.

        Returns:
            The record without ``annotations``, with ``image`` (3, size, size) uint8, ``view`` and ``dataset``;
            with ``proposals`` (Instances with ``proposal_boxes`` and ``objectness``) where they are given; with
            ``teacher_image`` and ``teacher_proposals`` where a teacher's size is. ``height`` and ``width`` are those
            of the image where the record has none.

        Raises:
            InputError: the image cannot be read.
        """
        image = read_image(record["file_name"], self.image_format)
        sample = {key: value for key, value in record.items() if key != "annotations"}
        # Not every data set knows the sizes of its images, and detections are scaled back to them.
        sample.setdefault("height", image.shape[0])
        sample.setdefault("width", image.shape[1])
        sample["view"] = view
        sample["dataset"] = self.dataset
        views = [("", view.size, self.image_format)]
        if self.teacher_size is not None:
            views.append(("teacher_", self.teacher_size, self.teacher_format))
        boxes, scores = self._proposals(record, image)
        for prefix, side, image_format in views:
            transform = view.transform(*image.shape[:2], side)
            pixels = image if image_format == self.image_format else image[..., ::-1]
            # Copied because torch takes no array with the negative strides of a mirrored image.
            pixels = np.ascontiguousarray(transform.apply_image(pixels).transpose(2, 0, 1))
            sample[f"{prefix}image"] = torch.from_numpy(pixels)
            if boxes is not None:
                moved, in_view = view.regions(boxes, *image.shape[:2], side)
                instances = Instances((side, side))
                instances.proposal_boxes = Boxes(moved)
                instances.objectness = torch.from_numpy(scores[in_view])
                sample[f"{prefix}proposals"] = instances
        return sample

    def _proposals(self, record: dict, image: np.ndarray) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        if self.proposals is None:
            return None, None
        if isinstance(self.proposals, ProposalMaker):
            boxes, scores = self.proposals(image, self.image_format)
        else:
            boxes, scores = self.proposals[record["image_id"]]
        boxes, scores = best_proposals(boxes, scores, self.top_k, self.min_side)
        return boxes.copy(), scores.copy()


def best_proposals(boxes: np.ndarray, scores: np.ndarray, top_k: int, min_side: float) -> tuple[np.ndarray, np.ndarray]:
    """The proposals of one image that a model uses.

    Args:
        boxes: (R, 4) in pixels of the image, best first.
        scores: (R,).
        top_k, min_side: see :class:`MultiLabelMapper`.
    """
    if min_side > 0:
        keep = np.minimum(*(boxes[:, 2:] - boxes[:, :2]).T) >= min_side
        boxes, scores = boxes[keep], scores[keep]
    return boxes[:top_k], scores[:top_k]
