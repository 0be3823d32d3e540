"""Knowledge of each view made once and kept in memory."""

from __future__ import annotations

from collections.abc import Sequence

from .hook import KnowledgeSource
from .knowledge import TeacherKnowledge

__all__ = ["RememberedKnowledge"]


class RememberedKnowledge:
    """A source of knowledge that asks another one only for views it has not seen.

    A frozen teacher says the same of the same view in every epoch, and a view is an image, mirrored or not, at one
    size. What no longer fits into memory is asked for every time.
    """

    def __init__(self, source: KnowledgeSource, gigabytes: float):
        """
        Args:
            source: for instance a :class:`~mlickd.distillation.LiveTeacher`.
            gigabytes: of main memory to use, in units of 2^30 bytes.
        """
        self.source = source
        self._bytes_left = gigabytes * 2**30
        self._known: dict[tuple, TeacherKnowledge] = {}

    def __len__(self) -> int:
        """Number of views known."""
        return len(self._known)

    def __call__(self, batched_inputs: Sequence[dict]) -> list[TeacherKnowledge]:
        """Knowledge of each sample; samples have ``view``, which with ``file_name`` says what the teacher would see."""
        keys = [(sample["file_name"], sample["view"]) for sample in batched_inputs]
        new = {key: sample for key, sample in zip(keys, batched_inputs, strict=True) if key not in self._known}
        made = dict(zip(new, self.source(list(new.values())), strict=True)) if new else {}
        for key, knowledge in made.items():
            if (size := knowledge.num_bytes) <= self._bytes_left:
                self._bytes_left -= size
                self._known[key] = knowledge.to("cpu")
        return [made[key] if key in made else self._known[key] for key in keys]
