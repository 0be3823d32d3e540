"""Speed of `generate_proposals` on all cores, compared with a plain loop over the images."""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
from detectron2.structures import BoxMode

from mlickd.data import ProposalStore, dataset_records
from mlickd.data.proposals.dataset_proposals import generate_proposals
from mlickd.data.proposals.edges import gradient_edges
from mlickd.data.proposals.image_proposals import complete_parameters
from mlickd.decoding import read_image

from .measurement import BenchmarkResult, time_interleaved
from .settings import TRAIN, synthetic_datasets


def measure_proposals(images: int = 300, repetitions: int = 3) -> list[BenchmarkResult]:
    """EdgeBoxes proposals per second on all cores, compared with a plain loop with OpenCV in one thread.

    Images and parameters are the same. `generate_proposals` also checks the images and writes the store. Plain loops
    in as many processes as cores, each over its share of the images, show what the machine allows.

    Args:
        images: number of images
        repetitions: timed repetitions
    """
    with synthetic_datasets(images, proposals=False) as folder:
        records = dataset_records(TRAIN)
        files = [record["file_name"] for record in records]
        store = folder / "store"

        def generate() -> None:
            shutil.rmtree(store, ignore_errors=True)
            generate_proposals(records, "edge_boxes", None, store)

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        calls = {
            "plain loop": lambda: plain_edge_boxes(files),
            f"plain loops in {cores} processes": lambda: _run_in_processes(files, cores),
            "generate_proposals": generate,
        }
        title, threads = f"{images} synthetic images", cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            timed = time_interleaved(title, calls, repetitions)
        finally:
            cv2.setNumThreads(threads)
        count = ProposalStore(store).num_boxes
    speeds = {name: [count / seconds for seconds in values] for name, values in timed.values.items()}
    return [BenchmarkResult(title, "proposals/s", speeds)]


def _run_in_processes(files: Sequence[str], count: int) -> None:
    shares = [files[number::count] for number in range(count)]
    with ProcessPoolExecutor(count) as pool:
        list(pool.map(_count_edge_boxes, shares))  # raises the error of a process


def _count_edge_boxes(files: Sequence[str]) -> int:
    # The boxes of a plain loop stay in its process.
    return sum(len(boxes) for boxes, _ in plain_edge_boxes(files))


def plain_edge_boxes(files: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Compute EdgeBoxes of images in a loop, with the default parameters of `generate_proposals`.

    Returns:
        For each image, boxes (R, 4) as (x0, y0, x1, y1) in pixels and scores (R,), best first.
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
        # Reusing a search object would change the boxes.
        search = cv2.ximgproc.createEdgeBoxes(
            alpha=parameters["alpha"], beta=parameters["beta"], minBoxArea=parameters["min_area"], maxBoxes=2000
        )
        boxes, scores = search.getBoundingBoxes(*edges)
        boxes = boxes / np.array([width, height] * 2) * np.array([image.shape[1], image.shape[0]] * 2)
        large = (boxes[:, 2:] >= parameters["min_side"] * longer).all(axis=1)
        boxes, scores = BoxMode.convert(boxes[large], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS), scores.ravel()[large]
        best = np.argsort(-scores, kind="stable")[: parameters["max_proposals"]]
        results.append((boxes[best], scores[best]))
    return results
