"""The source of knowledge of a distillation: a live teacher or the cache, with calibrated image scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from detectron2.config import CfgNode

from .cache import CachedKnowledge
from .calibration import Calibration, load_calibration
from .hook import KnowledgeSource
from .knowledge import TeacherKnowledge
from .teacher import LiveTeacher


@dataclass
class CalibratedKnowledge:
    """A source of knowledge that calibrates the image scores of another source."""

    source: KnowledgeSource
    calibration: Calibration

    def __call__(self, batched_inputs: Sequence[dict]) -> list[TeacherKnowledge]:
        """Return the knowledge of each sample."""
        return [
            replace(k, image_scores=None if k.image_scores is None else self.calibration.apply(k.image_scores))
            for k in self.source(batched_inputs)
        ]


def build_knowledge_source(cfg: CfgNode, teachers: Mapping[str, CfgNode]) -> KnowledgeSource:
    """Open ``KD.CACHE`` or load the teacher, and calibrate its image scores; see :func:`load_calibration`."""
    if cfg.KD.CACHE:
        source: KnowledgeSource = CachedKnowledge(cfg, teachers=teachers)
    else:
        source = LiveTeacher(cfg, next(iter(teachers.values())))
    calibration = load_calibration(cfg, teachers)
    return source if calibration is None else CalibratedKnowledge(source, calibration)
