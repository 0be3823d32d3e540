"""Proposals on all cores against what one would write first: a loop over the photos."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from mlickd.data import ProposalStore, dataset_records
from mlickd.data.images import read_image
from mlickd.data.photos import photo_records
from mlickd.data.proposals.edge_map import gradient_edges
from mlickd.data.proposals.generation import generate_proposals
from mlickd.data.proposals.methods import complete_parameters

from .comparison import Comparison
from .registry import Option, benchmark
from .timing import interleaved
from .workspace import TRAIN, scenes_workspace

__all__ = ["measure_proposals", "plain_edge_boxes"]


@benchmark(
    "proposals",
    "proposals per second on all cores, against a plain loop over the photos with OpenCV's EdgeBoxes",
    images=Option("photos", quick=3),
    photos=Option("folder of photos of your own (default: drawn ones)", metavar="FOLDER"),
    repetitions=Option("times that all photos are done with each", quick=1),
)
def measure_proposals(images: int = 60, photos: str = "", repetitions: int = 3) -> list[Comparison]:
    """The same photos, parameters and boxes; ours also checks the photos and writes a store.

    Args:
        images: how many photos.
        photos: the folder that the first of them are taken from; empty: `scenes` of 384 pixels.
        repetitions: rounds over all photos.
    """
    with ExitStack() as stack:
        if photos:
            records = photo_records([photos])[:images]
        else:
            stack.enter_context(scenes_workspace(images, proposals=False))
            records = dataset_records(TRAIN)
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "benchmark.proposals"

        def ours() -> None:
            path.unlink(missing_ok=True)
            generate_proposals(records, "edge_boxes", None, path)

        files = [record["file_name"] for record in records]
        calls = {"plain loop": lambda: plain_edge_boxes(files), "generate_proposals": ours}
        title = f"{len(files)} {'photos' if photos else 'drawn pictures'}"
        rows = interleaved(calls, repetitions, title=title)
        count = ProposalStore.open(path).header["num_boxes"]
    rows = [
        replace(
            row,
            values=[count / seconds for seconds in row.values],
            details={"photos/s": f"{len(files) / row.median:.1f}"},
        )
        for row in rows
    ]
    return [Comparison(title, "proposals/s", rows)]


def plain_edge_boxes(files: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """EdgeBoxes of each photo, one after the other, with the parameters that `generate_proposals` has by default.

    Returns:
        Boxes (R, 4) as (x0, y0, x1, y1) in pixels of the photo, and their scores (R,), best first.

    Raises:
        InputError: a photo cannot be read.
    """
    parameters = complete_parameters("edge_boxes")
    results = []
    for file in files:
        image = read_image(file, "BGR")
        longer = max(image.shape[:2])
        scale = parameters["longer_side"] / longer
        height, width = (round(scale * side) for side in image.shape[:2])
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        edges = gradient_edges(resized, parameters["smoothing"], parameters["neighborhood"], parameters["strength"])
        # Anew for each photo: a search that has seen another finds other boxes.
        search = cv2.ximgproc.createEdgeBoxes(
            alpha=parameters["alpha"], beta=parameters["beta"], minBoxArea=parameters["min_area"], maxBoxes=2000
        )
        boxes, scores = search.getBoundingBoxes(*edges)
        boxes = boxes / np.array([width, height] * 2) * np.array([image.shape[1], image.shape[0]] * 2)
        large = (boxes[:, 2:] >= parameters["min_side"] * longer).all(axis=1)
        boxes, scores = boxes[large], scores.ravel()[large]
        best = np.argsort(-scores, kind="stable")[: parameters["max_proposals"]]
        boxes = boxes[best]
        results.append((np.hstack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:])), scores[best]))
    return results
