"""Regions on photos, the result figure, the gallery and charts."""

from .charts import draw_training_curves
from .figures import draw_result_figure
from .gallery import write_gallery
from .image_results import ClassResult, ImageResult, class_results, image_result
from .regions import draw_regions, top_regions

__all__ = [
    "ClassResult",
    "ImageResult",
    "class_results",
    "draw_regions",
    "draw_result_figure",
    "draw_training_curves",
    "image_result",
    "top_regions",
    "write_gallery",
]
