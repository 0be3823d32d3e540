"""The source of a teacher's knowledge, and the hook that adds it to each batch on its way to the student."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from detectron2.config import CfgNode
from detectron2.engine import HookBase

from .cache import CachedKnowledge
from .knowledge import TeacherKnowledge
from .teacher import LiveTeacher

KnowledgeSource = Callable[[Sequence[dict]], list[TeacherKnowledge]]


def build_knowledge_source(cfg: CfgNode) -> KnowledgeSource:
    """Open ``KD.CACHE``, or load the teacher."""
    return CachedKnowledge(cfg) if cfg.KD.CACHE else LiveTeacher(cfg)


class KnowledgeLoader:
    """A data loader that adds the teacher's knowledge to each sample under the key ``knowledge``."""

    def __init__(self, loader: Iterable[list[dict]], source: KnowledgeSource, *, read_ahead: bool = False):
        """
        Args:
            loader: data loader that yields batches.
            source: function that returns the knowledge of each sample in a batch, such as a
                :class:`~mlickd.distillation.LiveTeacher`.
            read_ahead: whether a thread fetches the next batch and its knowledge while the model uses this batch.
                Useful if the source reads from a disk, but not if it computes on the model's device.
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
    """Adds a teacher's knowledge to the batches, by wrapping the trainer's data loader before training.

    Detectron2's training loop stays the same. A hook cannot add a loss, but it can add knowledge to the batch, and the
    model computes its loss from the knowledge. The student does not depend on the source of the knowledge.
    """

    def __init__(self, source: KnowledgeSource, *, read_ahead: bool = False):
        """See :class:`KnowledgeLoader` for the arguments."""
        self.source = source
        self.read_ahead = read_ahead

    def before_train(self) -> None:
        """Wrap the data loader of the trainer."""
        # DefaultTrainer keeps its training loop, which has the loader, in `_trainer`; SimpleTrainer is the loop itself.
        loop = getattr(self.trainer, "_trainer", self.trainer)
        loader = loop.data_loader
        loop.reset_data_loader(lambda: KnowledgeLoader(loader, self.source, read_ahead=self.read_ahead))
