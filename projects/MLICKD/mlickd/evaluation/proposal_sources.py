"""Where proposals that are to be compared come from: stores, and methods that are run now."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from mlickd.data.proposals.generation import read_bgr
from mlickd.data.proposals.methods import complete_parameters, parameter_value, propose
from mlickd.data.proposals.store import ProposalStore
from mlickd.errors import InputError

from .proposal_recall import ProposalRecall, measure_recall

__all__ = ["evaluate_sources", "source_names"]

logger = logging.getLogger(__name__)

# A store, or a method and its parameters.
Source = ProposalStore | tuple[str, dict[str, Any]]


def source_names(stores: Sequence[Path], methods: Sequence[str]) -> dict[str, Source]:
    """What is to be compared, by the name that a table gives it.

    Args:
        stores: paths of stores, which are called by their file names.
        methods: each ``NAME`` or ``NAME:PARAMETER=VALUE,...``.

    Raises:
        InputError: a store cannot be opened, a method or parameter is unknown, two have one name, or there is none.
    """
    sources: dict[str, Source] = {}
    for path in stores:
        _add(sources, path.stem, ProposalStore.open(path))
    for text in methods:
        method, _, settings = text.partition(":")
        parameters = {}
        for setting in filter(None, settings.split(",")):
            name, equals, value = setting.partition("=")
            if not equals:
                raise InputError(
                    f"--methods {text}: {setting!r} is not PARAMETER=VALUE; write for instance mode=quality"
                )
            parameters[name] = parameter_value(value)
        complete_parameters(method, parameters)
        _add(sources, f"{method} ({settings})" if settings else method, (method, parameters))
    if not sources:
        raise InputError("nothing to evaluate; give files with --proposals, or methods with --methods, or both")
    return sources


def evaluate_sources(
    records: Sequence[dict], sources: dict[str, Source], counts: Sequence[int], dataset_name: str
) -> tuple[dict[str, ProposalRecall], dict[str, ProposalRecall]]:
    """Measure each source on the objects of the records.

    Args:
        records: with annotations.
        sources: of :func:`source_names`. A method makes as many proposals as the largest count, unless its parameters
            say how many.
        counts: numbers of proposals.
        dataset_name: for messages.

    Returns:
        Recalls by name, at enough counts for a curve; and at ``counts`` alone.

    Raises:
        InputError: an image that a store lacks or that cannot be read, or no object in the records.
    """
    counts = tuple(sorted(set(counts)))
    curve_counts = _between(counts)
    curves = {}
    for name, source in sources.items():
        if isinstance(source, ProposalStore):
            source.check([record for record in records if record.get("annotations")])
            curves[name] = measure_recall(
                records, lambda record, store=source: store[record["image_id"]][0], curve_counts, dataset_name
            )
        else:
            curves[name] = _run(records, name, source, curve_counts, dataset_name)
    return curves, {name: _only(curve, counts) for name, curve in curves.items()}


def _run(
    records: Sequence[dict], name: str, source: tuple[str, dict], counts: tuple[int, ...], dataset_name: str
) -> ProposalRecall:
    method, parameters = source
    parameters = {"max_proposals": max(counts), **parameters}
    seconds = []

    def make(record: dict) -> np.ndarray:
        """Boxes (R, 4) of an image, in its pixels; the seconds are kept."""
        image = read_bgr(record)
        start = time.process_time()
        boxes, _ = propose(image, method, parameters)
        seconds.append(time.process_time() - start)
        return boxes

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        recall = measure_recall(tqdm(records, desc=name, unit="image", mininterval=1.0), make, counts, dataset_name)
    finally:
        cv2.setNumThreads(threads)
    return replace(recall, seconds=float(np.mean(seconds)))


def _between(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of proposals for a curve: evenly on a logarithmic axis, and ``counts``."""
    between = np.round(np.geomspace(1, max(counts), 40)).astype(int).tolist()
    return tuple(sorted({*between, *counts}))


def _only(curve: ProposalRecall, counts: tuple[int, ...]) -> ProposalRecall:
    return replace(curve, counts=counts, overlaps=curve.overlaps[[curve.counts.index(count) for count in counts]])


def _add(sources: dict[str, Source], name: str, source: Source) -> None:
    if name in sources:
        raise InputError(f"{name}: given twice; leave one out, or rename one of the files")
    sources[name] = source
