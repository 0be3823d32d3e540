"""Regions on photos, the result figure, the gallery and plots.

``mlickd.visualization.runs``, which runs models, is imported by its users.
"""

from .curves import draw_class_differences, draw_training_curves
from .gallery import write_gallery
from .regions import draw_regions, top_regions
from .result_figure import draw_result_figure
from .results import ImageResult, Prediction, image_result, top_predictions

__all__ = [
    "ImageResult",
    "Prediction",
    "draw_class_differences",
    "draw_regions",
    "draw_result_figure",
    "draw_training_curves",
    "image_result",
    "top_predictions",
    "top_regions",
    "write_gallery",
]
