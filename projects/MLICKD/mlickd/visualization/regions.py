"""A photo with the teacher's best regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from detectron2.structures import Boxes, Instances
from detectron2.utils.visualizer import Visualizer
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke
from PIL import Image

from .image_results import format_score, one_line

__all__ = ["RegionVisualizer", "draw_regions", "top_regions"]

GREEN = "#14e04a"
# Labels cannot be read on an image with a shorter longer side, in pixels.
MIN_SIDE = 480
# Sizes as fractions of the longer side, so that an image looks the same at every size.
LINE_WIDTH = 1 / 280
BEST_LINE_WIDTH = 1 / 110
FONT_SIZE = 1 / 34
# Padding around a label, in points; a little more than the background of `Visualizer.draw_text`.
LABEL_PADDING = 1.0


def top_regions(instances: Instances, top_k: int = 10) -> Instances:
    """Return the detections with the highest scores, best first; equal scores keep their order."""
    order = instances.scores.argsort(descending=True, stable=True)[:top_k]
    return instances[order]


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
        side: longer side of the result in pixels, by default that of ``image``, but at least 480.

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
        for rank in reversed(range(len(boxes))):  # the best is above the others
            self._draw_outline(boxes[rank], best=rank == 0)
        occupied: list[tuple[float, float, float, float]] = []
        for rank, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            self._place_label(box, label, occupied, best=rank == 0)
        return self.output.get_image()

    def _draw_outline(self, box: np.ndarray, *, best: bool) -> None:
        """Draw a green rectangle with a dark rim, inside the box so that all of the line is visible."""
        width = max(self.side * (BEST_LINE_WIDTH if best else LINE_WIDTH), 1.0)
        x0, y0, x1, y1 = box
        inset = min(width / 2, (x1 - x0) / 2, (y1 - y0) / 2)
        rectangle = Rectangle(
            (x0 + inset, y0 + inset),
            x1 - x0 - 2 * inset,
            y1 - y0 - 2 * inset,
            fill=False,
            edgecolor=GREEN,
            linewidth=width * self.points_per_pixel,
            joinstyle="miter",
        )
        rim = withStroke(linewidth=(width + max(width / 2, 2.0)) * self.points_per_pixel, foreground="#00000099")
        rectangle.set_path_effects([rim, Normal()])
        self.output.ax.add_patch(rectangle)

    def _place_label(self, box: np.ndarray, label: str, occupied: list, *, best: bool) -> None:
        self.draw_text(label.replace("$", r"\$"), (0, 0), color=GREEN, horizontal_alignment="left")
        text = self.output.ax.texts[-1]
        if best:
            text.set_fontweight("bold")
        extent = text.get_window_extent(self.output.canvas.get_renderer())
        padding = LABEL_PADDING / self.points_per_pixel
        width, height = extent.width + 2 * padding, extent.height + 2 * padding
        for x, y in _label_positions(box, width, height, self.output.width, self.output.height):
            if all(x + width <= x0 or x1 <= x or y + height <= y0 or y1 <= y for x0, y0, x1, y1 in occupied):
                occupied.append((x, y, x + width, y + height))
                text.set_position((x + padding, y + padding))
                return
        text.remove()


def _label_positions(
    box: np.ndarray, width: float, height: float, image_width: int, image_height: int
) -> Iterator[tuple[float, float]]:
    """Yield top left corners for the label of a box, inside the image: above the box, then in its corners."""
    x0, y0, x1, y1 = box
    candidates = [(x0, y0 - height), (x0, y0), (x1 - width, y0), (x0, y1), (x0, y1 - height), (x1 - width, y1 - height)]
    for x, y in candidates:
        if 0 <= y <= max(image_height - height, 0):
            yield min(max(x, 0), max(image_width - width, 0)), y
