"""An image with the teacher's best regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from detectron2.structures import Boxes, Instances
from detectron2.utils.visualizer import Visualizer
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke
from matplotlib.transforms import Bbox
from PIL import Image

from .image_results import format_score, one_line

__all__ = ["RegionVisualizer", "draw_regions", "top_regions"]

GREEN = "#14e04a"
# Labels are not readable on an image with a shorter longer side, in pixels.
MIN_SIDE = 480
# Sizes as fractions of the longer side, so that an image looks the same at every size.
LINE_WIDTH = 1 / 280
BEST_LINE_WIDTH = 1 / 110
FONT_SIZE = 1 / 34
# Padding around a label, in points; a little more than the background of `Visualizer.draw_text`.
LABEL_PADDING = 1.0


def top_regions(instances: Instances, top_k: int = 10) -> Instances:
    """Return the detections with the highest scores, best first; equal scores keep their order."""
    return instances[instances.scores.argsort(descending=True, stable=True)[:top_k]]


def draw_regions(
    image: np.ndarray,
    instances: Instances | None,
    class_names: Sequence[str],
    *,
    top_k: int = 10,
    side: int | None = None,
) -> np.ndarray:
    """Draw the best regions in green with class and score, and the best one with a thick line.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: detections with ``pred_boxes`` in pixels of ``image``, ``scores`` and ``pred_classes``; or None.
        class_names: C names.
        top_k: number of regions.
        side: longer side of the result in pixels; by default the longer side of ``image``, but at least 480.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    scale = (side or max(height, width, MIN_SIDE)) / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size != (width, height):
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    if instances is None or len(instances) == 0:
        return image  # unchanged, because some versions of matplotlib shift an image by a pixel
    regions = top_regions(instances.to("cpu"), top_k)
    boxes = Boxes(regions.pred_boxes.tensor.detach().clone().float())
    boxes.scale(size[0] / width, size[1] / height)
    boxes.clip((size[1], size[0]))
    labels = [
        f"{one_line(class_names[category])} {format_score(score)}"
        for category, score in zip(regions.pred_classes.tolist(), regions.scores.tolist(), strict=True)
    ]
    return RegionVisualizer(image).draw_regions(boxes.tensor.numpy(), labels)


class RegionVisualizer(Visualizer):
    """Detectron2's visualizer, with lines that are visible on any photo and labels that do not overlap."""

    def __init__(self, image: np.ndarray):
        """``image`` is (H, W, 3) uint8 RGB."""
        super().__init__(image)
        self.points_per_pixel = 72 / self.output.dpi  # matplotlib measures lines and fonts in points
        self.side = max(self.output.height, self.output.width)
        self._default_font_size = self.side * FONT_SIZE * self.points_per_pixel

    def draw_regions(self, boxes: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """Draw boxes and their labels.

        Args:
            boxes: (R, 4) XYXY pixels, best first.
            labels: labels of the R boxes. A label without free space is left out; better boxes choose first.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        for box in boxes[:0:-1]:  # the best is above the others
            self._draw_outline(box, LINE_WIDTH)
        self._draw_outline(boxes[0], BEST_LINE_WIDTH)
        occupied: list[Bbox] = []
        for rank, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            self._draw_label(box, label, occupied, "bold" if rank == 0 else "normal")
        return self.output.get_image()

    def _draw_outline(self, box: np.ndarray, width: float) -> None:
        """Draw a green rectangle with a dark rim, inside the box so that the whole line is visible."""
        width = max(self.side * width, 1.0)
        x0, y0, x1, y1 = box
        inset = min(width, x1 - x0, y1 - y0) / 2
        corner, size = (x0 + inset, y0 + inset), (x1 - x0 - 2 * inset, y1 - y0 - 2 * inset)
        line = {"linewidth": width * self.points_per_pixel, "joinstyle": "miter"}
        rectangle = Rectangle(corner, *size, fill=False, edgecolor=GREEN, **line)
        rim_width = (width + max(width / 2, 2.0)) * self.points_per_pixel
        rectangle.set_path_effects([withStroke(linewidth=rim_width, foreground="#00000099"), Normal()])
        self.output.ax.add_patch(rectangle)

    def _draw_label(self, box: np.ndarray, label: str, occupied: list[Bbox], weight: str) -> None:
        """Draw a label above its box or in a corner, inside the image, and add its place to ``occupied``."""
        self.draw_text(label.replace("$", r"\$"), (0, 0), color=GREEN, horizontal_alignment="left")
        text = self.output.ax.texts[-1]
        text.set_fontweight(weight)
        extent = text.get_window_extent(self.output.canvas.get_renderer())
        padding = LABEL_PADDING / self.points_per_pixel
        width, height = extent.width + 2 * padding, extent.height + 2 * padding
        right, bottom = (max(room, 0) for room in (self.output.width - width, self.output.height - height))
        x0, y0, x1, y1 = box
        left_of_x1, above_y0, above_y1 = x1 - width, y0 - height, y1 - height
        corners = [(x0, above_y0), (x0, y0), (left_of_x1, y0), (x0, y1), (x0, above_y1), (left_of_x1, above_y1)]
        for x, y in [(np.clip(x, 0, right), y) for x, y in corners if 0 <= y <= bottom]:
            place = Bbox.from_bounds(x, y, width, height)
            if not place.count_overlaps(occupied):
                occupied.append(place)
                text.set_position((x + padding, y + padding))
                return
        text.remove()
