"""Turn records into model inputs: the view of the model, the view of a live teacher, and the proposals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from mlickd.decoding import RecordImage

from .proposals.store import ProposalStore
from .views import View


@dataclass(kw_only=True)
class MultiLabelMapper:
    """Turns a record into a sample: decodes the image and cuts out the views. Samples never have the record's boxes.

    The view of a live teacher shows the same part of the image as the view of the student, at another size. The
    proposals are transformed with each view, so that region i is the same region in both.

    Args:
        image_format: ``RGB`` or ``BGR``.
        proposals: proposals of the dataset, or a function that generates them, see
            :func:`~mlickd.data.build.build_proposer`; None for samples without proposals.
        top_k: maximum number of proposals of an image, the best by score.
        teacher_size: side of the teacher's view in pixels; None for samples without a teacher's view.
        teacher_format: image format of the teacher, by default ``image_format``.
        dataset: name of the dataset. Samples contain it, because image ids are unique only within a dataset.
        view: default view of the model.
    """

    image_format: str = "RGB"
    proposals: ProposalStore | Callable[..., tuple[np.ndarray, np.ndarray]] | None = None
    top_k: int = 500
    teacher_size: int | None = None
    teacher_format: str | None = None
    dataset: str | None = None
    view: View | None = None

    def __call__(self, record: dict, view: View | None = None) -> dict:
        """Return the sample of a record.

        If a crop excludes all proposals, a sample with a teacher's view gets empty proposals, because the student's
        pixels must not depend on proposals. Other samples get the whole image, because a detector cannot learn without
        proposals.

        Args:
            record: dict with ``file_name`` or ``pixels`` (see :class:`RecordImage`), and ``image_id``.
            view: view of the model, by default the view of the mapper.

        Returns:
            The record without ``annotations``, with ``image`` (3, size, size) uint8, ``view``, ``dataset``, and the
            ``height`` and ``width`` of the image. If there are proposals, also ``proposals`` (Instances with
            ``proposal_boxes`` and ``objectness``); for a teacher, also ``teacher_image`` and ``teacher_proposals``.

        Raises:
            InputError: the image cannot be read.
        """
        view = view or self.view
        image = RecordImage(record, self.image_format)
        shape = image.height, image.width
        sample = {key: value for key, value in record.items() if key not in ("annotations", "pixels")}
        # Detections are scaled back to the size of the image, which the records of some datasets lack.
        sample.setdefault("height", image.height)
        sample.setdefault("width", image.width)
        boxes, scores = self._proposals(record, image)
        if view.crop is not None and boxes is not None and self.teacher_size is None:
            moved, _ = view.regions(boxes, *shape)
            view = view if len(moved) else replace(view, crop=None)
        sample |= {"view": view, "dataset": self.dataset, "image": view.pixels(image)}
        teacher_view = replace(view, size=self.teacher_size) if self.teacher_size else None
        if teacher_view is not None:
            pixels = teacher_view.pixels(image)
            same_format = self.teacher_format in (None, self.image_format)
            sample["teacher_image"] = pixels if same_format else pixels.flip(0)
        if boxes is not None:
            sample["proposals"] = _instances(boxes, scores, view, shape)
            if teacher_view is not None:
                sample["teacher_proposals"] = _instances(boxes, scores, teacher_view, shape)
        return sample

    def _proposals(self, record: dict, image: RecordImage) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        if self.proposals is None:
            return None, None
        if isinstance(self.proposals, ProposalStore):
            boxes, scores = self.proposals[record["image_id"]]
        else:
            boxes, scores = self.proposals(image.decode()[0], image_format=self.image_format)
        return boxes[: self.top_k], scores[: self.top_k]  # best first


def map_at_sizes(record: dict, mapper: MultiLabelMapper, sizes: Sequence[int]) -> dict:
    """Return the sample of a mapper with ``views`` instead of ``image``, ``proposals`` and ``view``.

    ``views`` has a dict for each of ``sizes``, the sides of square views in pixels. A dict has ``image`` and, if the
    mapper has proposals, ``proposals``. All dicts have the same regions in the same order.
    """
    samples = [mapper(record, View(size)) for size in sizes]
    seen = ("image", "proposals")
    views = [{key: sample[key] for key in seen if key in sample} for sample in samples]
    return {key: value for key, value in samples[0].items() if key not in (*seen, "view")} | {"views": views}


def _instances(boxes: np.ndarray, scores: np.ndarray, view: View, shape: tuple[int, int]) -> Instances:
    moved, in_view = view.regions(boxes, *shape)
    instances = Instances((view.size, view.size))
    instances.proposal_boxes = Boxes(moved)
    instances.objectness = torch.from_numpy(scores[in_view])
    return instances
