"""`scenes`: a procedural multi-label dataset with true boxes, drawn on first use."""

from .composition import CATEGORY_NAMES, Scene, draw_scene
from .dataset import COUNTS, DIRECTORY, SEED, SIDE, ensure_scenes, write_scenes

__all__ = [
    "CATEGORY_NAMES",
    "COUNTS",
    "DIRECTORY",
    "SEED",
    "SIDE",
    "Scene",
    "draw_scene",
    "ensure_scenes",
    "write_scenes",
]
