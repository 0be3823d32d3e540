"""A dataset's proposals made in parts, on as many machines, and put together again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlickd.errors import InputError

from .generation import image_list_digest, is_complete, shard_path, shard_records
from .methods import recorded_parameters
from .store import ProposalStore, library_versions, write_store

__all__ = ["merge_shards"]


def merge_shards(
    records: Sequence[Mapping[str, Any]],
    method: str,
    parameters: Mapping[str, Any] | None,
    path: str | os.PathLike[str],
    count: int,
) -> Path:
    """Put the ``count`` shards beside ``path`` together: the same bytes as if there had been none.

    The shards stay where they are.

    Args:
        records, method, parameters: of `generate_proposals`.
        path: of the store; the shards are at `shard_path`.
        count: number of shards.

    Returns:
        The path.

    Raises:
        InputError: a shard is missing, damaged, of other images or made otherwise; names it and says in what.
    """
    path = Path(path)
    key = {
        "method": method,
        "parameters": recorded_parameters(method, parameters),
        "image_digest": image_list_digest(records),
    }
    if is_complete(path, key):
        return path
    shards = [_open_shard(path, index, count, key) for index in range(1, count + 1)]
    for index, shard in enumerate(shards, start=1):
        expected = {str(record["image_id"]) for record in shard_records(records, index, count)}
        if set(shard) != expected:
            raise InputError(f"{shard.path}: its images are not those of shard {index}/{count}; make it again")

    def items() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for shard in shards:
            for image_id in shard:
                yield image_id, *shard[image_id]

    write_store(path, items(), **key)
    return path


def _open_shard(path: Path, index: int, count: int, key: Mapping[str, Any]) -> ProposalStore:
    place = shard_path(path, index, count)
    if not place.exists():
        raise InputError(f"{place}: shard {index}/{count} is missing; make it with --shard {index}/{count}, or copy it")
    shard = ProposalStore.open(place)
    expected = {**key, "libraries": library_versions(), "shard": [index, count]}
    for name, value in expected.items():
        found = shard.header.get(name)
        if found != value:
            raise InputError(
                f"{place}: does not belong here: its {name} is {found}, not {value}; make it again with --shard "
                f"{index}/{count}"
            )
    return shard
