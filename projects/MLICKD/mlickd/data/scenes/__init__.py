"""`scenes`: a synthetic multi-label dataset with true boxes, drawn on first use."""

from .composition import CATEGORY_NAMES, draw_scene
from .dataset import COUNTS, FOLDER, ensure_scenes, write_scenes

__all__ = ["CATEGORY_NAMES", "COUNTS", "FOLDER", "draw_scene", "ensure_scenes", "write_scenes"]
