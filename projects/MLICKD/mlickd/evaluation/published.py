"""What the paper has published of its methods: for a table beside measured values, never among them."""

from __future__ import annotations

__all__ = ["PUBLISHED", "PUBLISHED_SOURCE"]

PUBLISHED_SOURCE = "published (paper, VGG16, 224 px)"

# Liu et al., ACM MM 2018, arXiv 1809.05884, tables on MS-COCO and NUS-WIDE: percent, as in
# mlickd.evaluation.summary.METRICS.
PUBLISHED = {
    "coco": {
        "baseline": (70.9, 63.6, 67.0, 60.7, 66.7),
        "hinton": (71.3, 64.7, 69.3, 61.5, 67.6),
        "fitnets": (72.5, 65.2, 70.9, 62.3, 68.3),
        "attention_transfer": (71.4, 64.6, 69.8, 61.6, 67.8),
        "distilled": (74.6, 69.2, 74.0, 66.8, 72.7),
    },
    "nus_wide": {
        "baseline": (55.6, 52.0, 67.2, 47.5, 64.8),
        "hinton": (57.2, 54.3, 69.5, 50.3, 67.5),
        "fitnets": (57.4, 54.9, 70.4, 51.4, 68.6),
        "attention_transfer": (57.6, 55.2, 70.3, 51.7, 68.8),
        "distilled": (60.1, 58.7, 73.7, 53.8, 71.1),
    },
}
