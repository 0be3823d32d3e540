"""Metrics as pure functions, and the Detectron2 evaluators that compute them."""

from .. import registration  # noqa: F401
from .detection import TrainingCorLoc, WeakDetectionEvaluator
from .detection_metrics import coco_average_precision, corloc, voc_detection_average_precision
from .intervals import bootstrap_metrics
from .metrics import multilabel_metrics
from .multilabel import MultiLabelEvaluator

__all__ = [
    "MultiLabelEvaluator",
    "TrainingCorLoc",
    "WeakDetectionEvaluator",
    "bootstrap_metrics",
    "coco_average_precision",
    "corloc",
    "multilabel_metrics",
    "voc_detection_average_precision",
]
