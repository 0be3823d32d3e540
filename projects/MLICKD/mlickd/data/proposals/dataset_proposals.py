"""Generation of the proposals of a whole dataset, in parallel. A stopped command continues with the next shard."""

import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from mlickd.decoding import RecordImage
from mlickd.environment import keep_freed_memory
from mlickd.errors import InputError
from mlickd.files import check_writable, remove_unfinished
from mlickd.progress import progress
from mlickd.tensor_shards import Shard, ShardLayout

from ..workers import set_up_worker
from .image_proposals import complete_parameters, propose
from .store import (
    IMAGES_PER_SHARD,
    ProposalStore,
    different_fields,
    image_list_digest,
    store_header,
    write_proposal_shard,
)

logger = logging.getLogger(__name__)


def generate_proposals(
    records: Sequence[Mapping[str, Any]],
    method: str,
    parameters: Mapping[str, Any] | None,
    path: str | os.PathLike[str],
    workers: int | None = None,
    part: tuple[int, int] = (1, 1),
) -> ProposalStore | None:
    """Generate the proposals of a list of images.

    Shards in ``path`` that were made from the same images with the same method and parameters are kept. All other
    shards are made again. The content does not depend on the number of workers or parts, or on interruptions.

    Args:
        records: dicts with ``file_name``, ``image_id`` and optionally ``height`` and ``width`` in pixels.
        method: name in `PROPOSAL_METHODS`.
        parameters: parameters that differ from the defaults of the method.
        path: folder of the store.
        workers: number of processes; 0 works in this process. None starts one process per core; under torchrun, the
            ranks of a machine share its cores.
        part: ``(i, n)`` for the i-th of n equal parts of the shards; i starts at 1. Each machine makes one part.

    Returns:
        The store, or None if shards of other parts are missing or outdated.

    Raises:
        InputError: the method or a parameter is unknown, ``path`` is not writable, or an image is missing, is
            unreadable or does not have the size in its record. All images are tried first, and the message names every
            image that failed.
    """
    path = Path(path)
    complete = complete_parameters(method, parameters)
    header = store_header(method, complete, image_list_digest(records), len(records))
    layout = ShardLayout(len(records), IMAGES_PER_SHARD)
    expected = {**header, "ids": [str(record["image_id"]) for record in records]}
    missing = _shards_to_make(path, layout, expected, part)
    for number, fields in missing.items():
        check_writable(layout.path(path, number))
        if layout.path(path, number).exists():
            logger.warning("%s: different %s; the shard is made again", layout.path(path, number), ", ".join(fields))
    if others := layout.other_shards(path):
        logger.warning(
            "%s: has %d shards of another list of images; they are removed when the new ones are complete",
            path,
            len(others),
        )
    remaining = [records[index] for number in missing for index in layout.images(number)]
    if len(missing) < len(layout):
        logger.info("%s: %d of %d shards remain to be made", path, len(missing), len(layout))
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    workers = min(workers, len(remaining))
    loader = DataLoader(
        remaining,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        prefetch_factor=8 if workers else None,  # a worker does not wait while another has a difficult image
        collate_fn=partial(_propose_for_record, method=method, parameters=complete),
        worker_init_fn=_set_up_worker,
        generator=torch.Generator(),  # does not change the global generator
    )
    results = progress(loader, path.name, "image", len(remaining))
    problems: list[str] = []
    for number in missing:
        items = list(islice(results, len(layout.images(number))))
        errors = [item for item in items if isinstance(item, str)]
        # Another process that has made this shard may be reading it now.
        if not errors and _differences(path, layout, expected, number):
            write_proposal_shard(layout.path(path, number), items, header)
        problems += errors
    if problems:
        raise InputError(f"{len(problems)} of {len(remaining)} images cannot be used: {'; '.join(problems)}")
    if _shards_to_make(path, layout, expected):
        return None
    layout.remove_other_shards(path)
    remove_unfinished(path)
    return ProposalStore(path)


def _propose_for_record(
    record: Mapping[str, Any], method: str, parameters: Mapping[str, Any]
) -> tuple[str | int, np.ndarray, np.ndarray] | str:
    """Return the image id, boxes and scores of a record, or an error message if the image cannot be read."""
    try:
        image, _ = RecordImage(record, "BGR", check_size=True).decode()
    except InputError as error:
        return str(error)
    return record["image_id"], *propose(image, method, parameters)


def _shards_to_make(
    path: Path, layout: ShardLayout, expected: Mapping[str, Any], part: tuple[int, int] = (1, 1)
) -> dict[int, list[str]]:
    """Return the indices of the missing and outdated shards of a part, with the metadata fields that differ.

    ``expected`` has the ``ids`` of all shards. Outdated shards are replaced, not removed, because other processes may
    replace them at the same time.
    """
    found = {number: _differences(path, layout, expected, number) for number in layout.indices(part)}
    return {number: fields for number, fields in found.items() if fields}


def _differences(path: Path, layout: ShardLayout, expected: Mapping[str, Any], number: int) -> list[str]:
    """Return the fields of the metadata of a shard that differ; all if it is missing."""
    images = layout.images(number)
    try:
        metadata = Shard(layout.path(path, number), "").read_metadata()
    except InputError:
        metadata = {}
    return different_fields({**expected, "ids": expected["ids"][images.start : images.stop]}, metadata)


def _set_up_worker(worker_id: int) -> None:
    set_up_worker(worker_id)
    cv2.setNumThreads(0)
    keep_freed_memory()
