"""Knowledge of each view made once and kept in memory."""

from __future__ import annotations

from collections.abc import Sequence

from .hook import KnowledgeSource
from .knowledge import TeacherKnowledge

__all__ = ["RememberedKnowledge"]


class RememberedKnowledge:
    """A source of knowledge that asks another one only for views it has not seen.

    A frozen teacher says the same of the same view in every epoch, and a view is an image, mirrored or not, at one
    size. Memory grows with the data set: R x D x P x P floats a view for features, C floats for image scores.
    """

    def __init__(self, source: KnowledgeSource):
        """
        Args:
            source: for instance a :class:`~mlickd.distillation.LiveTeacher`.
        """
        self.source = source
        self._known: dict[tuple, TeacherKnowledge] = {}

    def __len__(self) -> int:
        """Number of views known."""
        return len(self._known)

    def __call__(self, batched_inputs: Sequence[dict]) -> list[TeacherKnowledge]:
        """Knowledge of each sample; samples have ``view``, which with ``file_name`` says what the teacher would see."""
        keys = [(sample["file_name"], sample["view"]) for sample in batched_inputs]
        new = {key: sample for key, sample in zip(keys, batched_inputs, strict=True) if key not in self._known}
        if new:
            self._known.update(zip(new, self.source(list(new.values())), strict=True))
        return [self._known[key] for key in keys]
