"""Whether the proposals of a data set are there, complete and sane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlickd.errors import InputError

from ..proposals.generation import image_list_digest
from ..proposals.methods import PROPOSAL_METHODS
from ..proposals.store import ProposalStore, proposals_path
from .findings import Finding

__all__ = ["check_proposals"]


def check_proposals(
    name: str, records: Sequence[dict], methods: Sequence[str] | None = None
) -> tuple[dict[str, dict[str, Any]], list[Finding]]:
    """Open the stores of a data set and look at every box.

    Args:
        name: of the data set.
        records: with ``image_id``, ``height`` and ``width``, of readable images.
        methods: those whose store must be there; None looks for those of all methods, and finds it worth a note
            if there is none.

    Returns:
        For each method whose store is sane ``mean``, ``min`` and ``max`` number of boxes of an image; and the findings.
    """
    statistics, findings = {}, []
    known = sorted(method for method, _ in PROPOSAL_METHODS)
    for method in known if methods is None else methods:
        path = proposals_path(name, method)
        if not path.exists():
            if methods is not None:
                findings.append(Finding("error", name, f"{path}: no such proposals; {_command(name, method)}"))
            continue
        try:
            store = ProposalStore.open(path)
            store.check(records)
        except InputError as error:
            findings.append(Finding("error", name, str(error)))
            continue
        counts = np.array([len(store[record["image_id"]][1]) for record in records])
        statistics[method] = {"mean": float(counts.mean()), "min": int(counts.min()), "max": int(counts.max())}
        if method in known and store.header["image_digest"] != image_list_digest(records):
            message = f"{path}: was made for other image files or another list of images; {_command(name, method)}"
            findings.append(Finding("warning", name, message))
    if methods is None and not statistics and not findings:
        method = "edge_boxes"
        message = f"no proposals yet, which the teacher needs; {_command(name, method)}"
        findings.append(Finding("note", name, message))
    return statistics, findings


def _command(name: str, method: str) -> str:
    return f"make them with `python tools/generate_proposals.py --dataset {name} --method {method}`"
