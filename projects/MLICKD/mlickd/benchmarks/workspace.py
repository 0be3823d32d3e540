"""Drawn pictures and their proposals, in a folder that lives as long as a benchmark."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlickd.data import dataset_records, proposals_path
from mlickd.data.proposals.generation import generate_proposals
from mlickd.data.scenes import write_scenes

__all__ = ["TEST", "TRAIN", "scenes_workspace"]

# Names of the datasets of a workspace.
TRAIN, TEST = "benchmark_train", "benchmark_test"


@contextmanager
def scenes_workspace(num_images: int, side: int = 384, *, proposals: bool = True) -> Iterator[Path]:
    """A root of datasets with ``benchmark_train`` and ``benchmark_test``; DETECTRON2_DATASETS points at it meanwhile.

    Args:
        num_images: of each split.
        side: of the pictures, in pixels.
        proposals: make those of EdgeBoxes, too.
    """
    before = os.environ.get("DETECTRON2_DATASETS")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DETECTRON2_DATASETS"] = folder
        try:
            write_scenes(Path(folder) / "benchmark", {"train": num_images, "test": num_images}, side, num_workers=0)
            with _without_warnings():  # that so few pictures do not show every class
                for name in (TRAIN, TEST):
                    dataset_records(name)
            for name in (TRAIN, TEST) if proposals else ():
                generate_proposals(dataset_records(name), "edge_boxes", None, proposals_path(name, "edge_boxes"))
            yield Path(folder)
        finally:
            del os.environ["DETECTRON2_DATASETS"]
            if before is not None:
                os.environ["DETECTRON2_DATASETS"] = before


@contextmanager
def _without_warnings() -> Iterator[None]:
    logger = logging.getLogger("mlickd")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
