"""Whether the proposals of a dataset are there, complete and sane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlickd.errors import InputError

from ..catalog import dataset_records
from ..parts import whole_name
from ..proposals.generation import image_list_digest
from ..proposals.methods import PROPOSAL_METHODS
from ..proposals.store import ProposalStore, proposals_path
from .findings import Finding

__all__ = ["check_proposals"]


def check_proposals(
    name: str, records: Sequence[dict], methods: Sequence[str] | None = None, *, complete: bool = True
) -> tuple[dict[str, dict[str, Any]], list[Finding]]:
    """Open the stores of a dataset and look at every box.

    Args:
        name: of the dataset.
        records: with ``image_id``, ``height`` and ``width``, of readable images. Nothing is checked without any.
        methods: those whose store must be there; None looks at all stores that are there, made or imported, and finds
            it worth a note if there is none.
        complete: whether these are all records of the dataset, so that they are those that a store was made for. The
            store of a part is that of the whole dataset, whose records are then looked up.

    Returns:
        For each method whose store is sane ``mean``, ``min`` and ``max`` number of boxes of an image; and the findings.
    """
    statistics, findings = {}, []
    whole = whole_name(name)
    if not records:
        return statistics, findings
    for method in _methods_here(whole) if methods is None else methods:
        path = proposals_path(name, method)
        if not path.exists():
            findings.append(Finding("error", name, f"{path}: no such proposals; {_command(whole, method)}"))
            continue
        try:
            store = ProposalStore.open(path)
            store.check(records)
            made_for = records if name == whole else dataset_records(whole, boxes=False)
            stale = complete and store.header.get("image_digest") != image_list_digest(made_for)
        except InputError as error:
            findings.append(Finding("error", name, str(error)))
            continue
        counts = np.array([len(store[record["image_id"]][1]) for record in records])
        statistics[method] = {"mean": float(counts.mean()), "min": int(counts.min()), "max": int(counts.max())}
        if stale:
            message = f"{path}: was made for other image files or another list of images; {_command(whole, method)}"
            findings.append(Finding("warning", name, message))
    if methods is None and not statistics and not findings:
        method = "edge_boxes"
        message = f"no proposals yet, which the teacher needs; {_command(whole, method)}"
        findings.append(Finding("note", name, message))
    return statistics, findings


def _methods_here(name: str) -> list[str]:
    """Methods and formats of the stores ``<name>_<method>.proposals`` that are there.

    The store ``pets_train_small_mcg`` is that of ``pets_train_small``, not one of ``pets_train``: its header says so.
    """
    methods = []
    for path in proposals_path(name, "").parent.glob("*.proposals"):
        method = path.stem.removeprefix(f"{name}_")
        if method == path.stem:
            continue
        if method in PROPOSAL_METHODS:
            methods.append(method)
            continue
        try:
            of_header = ProposalStore.open(path).header.get("method")
        except InputError:  # damaged, which is then found; no format has an underscore in its name
            of_header = None if "_" in method else method
        if of_header == method:
            methods.append(method)
    return sorted(methods)


def _command(name: str, method: str) -> str:
    if method in PROPOSAL_METHODS:
        return f"make them with `python tools/generate_proposals.py --dataset {name} --method {method}`"
    return f"import them with `python tools/convert_proposals.py`, or give one of {', '.join(_known_methods())}"


def _known_methods() -> list[str]:
    return sorted(method for method, _ in PROPOSAL_METHODS)
