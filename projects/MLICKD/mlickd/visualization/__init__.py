"""Regions on photos, the result figure, the gallery and charts."""

from .charts import draw_training_curves
from .figures import draw_result_figure
from .image_results import image_result

__all__ = ["draw_result_figure", "draw_training_curves", "image_result"]
