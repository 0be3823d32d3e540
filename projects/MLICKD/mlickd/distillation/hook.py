"""The connection between teacher and student: knowledge joins the batch on its way to the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from detectron2.engine import HookBase

from .knowledge import TeacherKnowledge

__all__ = ["DistillationHook", "KnowledgeLoader", "KnowledgeSource"]

KnowledgeSource = Callable[[Sequence[dict]], list[TeacherKnowledge]]


class KnowledgeLoader:
    """A data loader whose samples carry the teacher's knowledge under ``knowledge``."""

    def __init__(self, loader: Iterable[list[dict]], source: KnowledgeSource, *, read_ahead: bool = False):
        """
        Args:
            loader: yields batches.
            source: returns the knowledge of a batch.
            read_ahead: fetch the next batch and its knowledge in a thread while the model works on this one; for a
                source that waits for a disk, not for one that computes on the model's device.
        """
        self.loader = loader
        self.source = source
        self.read_ahead = read_ahead

    def __iter__(self) -> Iterator[list[dict]]:
        # The loader starts its workers here, in the main thread.
        batches = self._with_knowledge(iter(self.loader))
        if not self.read_ahead:
            yield from batches
            return
        with ThreadPoolExecutor(max_workers=1) as thread:
            coming = thread.submit(next, batches, None)
            while (batch := coming.result()) is not None:
                coming = thread.submit(next, batches, None)
                yield batch

    def _with_knowledge(self, batches: Iterator[list[dict]]) -> Iterator[list[dict]]:
        for batch in batches:
            for sample, knowledge in zip(batch, self.source(batch), strict=True):
                sample["knowledge"] = knowledge
            yield batch


class DistillationHook(HookBase):
    """Brings a teacher's knowledge to the student by wrapping the trainer's data loader before training.

    Detectron2's training loop stays as it is: a hook cannot add a loss, but the batch can carry what the model needs
    to compute it. The student cannot tell where the knowledge comes from.
    """

    def __init__(self, source: KnowledgeSource, *, read_ahead: bool = False):
        """
        Args:
            source: function from the samples of a batch to the knowledge of each, for instance a
                :class:`~mlickd.distillation.LiveTeacher`.
            read_ahead: see :class:`KnowledgeLoader`.
        """
        self.source = source
        self.read_ahead = read_ahead

    def before_train(self) -> None:
        """Wrap the data loader of the trainer."""
        # DefaultTrainer keeps its training loop, which has the loader, in `_trainer`; SimpleTrainer is the loop itself.
        loop = getattr(self.trainer, "_trainer", self.trainer)
        loader = loop.data_loader
        loop.reset_data_loader(lambda: KnowledgeLoader(loader, self.source, read_ahead=self.read_ahead))
