"""Proposals of a whole dataset: on all cores, the same bytes every time, resumed where they were stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mlickd.errors import InputError

from ..images import read_image
from .journal import ProposalJournal
from .methods import complete_parameters, proposals_for_image, recorded_parameters
from .store import ProposalStore, library_versions, write_store

__all__ = ["generate_proposals", "image_list_digest", "is_complete", "read_bgr", "shard_path", "shard_records"]

logger = logging.getLogger(__name__)


def generate_proposals(
    records: Sequence[Mapping[str, Any]],
    method: str,
    parameters: Mapping[str, Any] | None,
    path: str | os.PathLike[str],
    workers: int | None = None,
    shard: tuple[int, int] | None = None,
) -> Path:
    """Make sure that ``path`` holds the proposals of these images, made with this method and these parameters.

    Returns at once where it does. Otherwise they are made; what is done is kept in ``<path>.partial`` until the end, so
    that a later call goes on from there. The file's bytes depend on neither the number of workers nor interruptions.

    With ``shard`` only that part of the images is done, into a file beside ``path``; see `merge_shards`.

    Args:
        records: with ``file_name``, ``image_id`` and, where they are known, ``height`` and ``width`` in pixels.
        method: name in `PROPOSAL_METHODS`.
        parameters: those that differ from the method's defaults.
        path: of the store; one that was made otherwise is replaced.
        workers: processes; 0 makes them in this one, None takes one for each core.
        shard: (number from 1, count) of the part to make.

    Returns:
        The path of what was made.

    Raises:
        InputError: unknown method or parameter; an image that is missing, unreadable, listed twice or not of the size
            of its record; another process is making the same file.
    """
    path = Path(path)
    complete = complete_parameters(method, parameters)
    key = {
        "method": method,
        "parameters": recorded_parameters(method, complete),
        "image_digest": image_list_digest(records),
    }
    if shard is not None:
        path, records, key["shard"] = shard_path(path, *shard), shard_records(records, *shard), list(shard)
    if is_complete(path, key):
        return path
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ProposalJournal(path.with_name(f"{path.name}.partial"), {**key, "libraries": library_versions()}) as journal:
        remaining = [record for record in records if str(record["image_id"]) not in journal.done]
        if len(remaining) < len(records):
            logger.info("%s: images that were done before: %d of %d", path, len(records) - len(remaining), len(records))
        results = DataLoader(
            _ImageProposals(remaining, method, complete),
            batch_size=None,
            num_workers=min(workers, len(remaining)),
            collate_fn=_as_it_is,
            worker_init_fn=_use_one_thread,
            generator=torch.Generator(),  # leaves the global one alone
        )
        progress = tqdm(
            results, desc=path.stem, unit="image", mininterval=1.0, total=len(records), initial=len(journal.done)
        )
        for image_id, result in progress:
            if isinstance(result, InputError):
                raise result
            journal.append(image_id, *result)
        write_store(path, journal, **key)
        journal.remove()
    return path


def image_list_digest(records: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of a list of images, in whatever order: their ids, sizes in pixels and sizes in bytes.

    Raises:
        InputError: an image file is missing, or an image id occurs twice.
    """
    images = {}
    for record in records:
        image_id = str(record["image_id"])
        if image_id in images:
            raise InputError(f"{record['file_name']}: image id {image_id} occurs twice; give every image one id")
        try:
            length = os.stat(record["file_name"]).st_size
        except OSError as error:
            raise InputError(f"{record['file_name']}: image file not found; put it there") from error
        images[image_id] = record.get("width"), record.get("height"), length
    return hashlib.sha256(json.dumps(images, sort_keys=True).encode()).hexdigest()


def shard_path(path: str | os.PathLike[str], number: int, count: int) -> Path:
    """Where shard ``number``, from 1, of ``count`` of the store ``path`` is kept."""
    path = Path(path)
    return path.with_name(f"{path.name}.shard-{number}-of-{count}")


def shard_records(records: Sequence[Mapping[str, Any]], number: int, count: int) -> list[Mapping[str, Any]]:
    """The part of the records that is in a shard, whatever their order: every ``count``-th by image id."""
    ordered = sorted(records, key=lambda record: str(record["image_id"]))
    return ordered[number - 1 :: count]


class _ImageProposals(Dataset):
    """Item i is the id of image i and its boxes and scores, or the `InputError` that came instead.

    An exception that a data loader passes on would lose its one line in a traceback.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], method: str, parameters: Mapping[str, Any]):
        self.records, self.method, self.parameters = records, method, parameters

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[str | int, tuple[np.ndarray, np.ndarray] | InputError]:
        record = self.records[index]
        try:
            return record["image_id"], proposals_for_image(read_bgr(record), self.method, self.parameters)
        except InputError as error:
            return record["image_id"], error


def read_bgr(record: Mapping[str, Any]) -> np.ndarray:
    """The image of a record, (H, W, 3) uint8 BGR.

    Raises:
        InputError: it cannot be read, or has not the size of its record.
    """
    path = record["file_name"]
    image = read_image(path, "BGR")
    height, width = image.shape[:2]
    if (record.get("height", height), record.get("width", width)) != (height, width):
        raise InputError(
            f"{path}: the image is {width}x{height} pixels, its record says "
            f"{record['width']}x{record['height']}; correct the record"
        )
    return image


def is_complete(path: Path, key: Mapping[str, Any]) -> bool:
    """Whether the store at ``path`` is whole and its header says what ``key`` says."""
    if not path.exists():
        return False
    try:
        header = ProposalStore.open(path).header
    except InputError as error:
        logger.warning("%s", error)
        return False
    changed = ", ".join(name for name, value in {"shard": None, **key}.items() if header.get(name) != value)
    if not changed:
        return True
    logger.warning("%s: was made with another %s; making it again", path, changed)
    return False


def _as_it_is(item: Any) -> Any:
    return item


def _use_one_thread(worker_id: int) -> None:
    cv2.setNumThreads(0)
