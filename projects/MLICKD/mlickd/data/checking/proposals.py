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

__all__ = ["check_proposals"]


def check_proposals(
    name: str, records: Sequence[dict], methods: Sequence[str] | None = None, *, complete: bool = True
) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str]]]:
    """Open the stores of a dataset and check every box.

    Args:
        name: name of the dataset. A part shares the store of the whole dataset.
        records: dicts with ``image_id``, ``height`` and ``width``, of readable images.
        methods: methods whose store must be there; None checks all stores that are there, made or imported.
        complete: whether these are all records of the dataset, whose digest a store made for it has.

    Returns:
        For each method whose store is sane the ``mean``, ``min`` and ``max`` number of boxes of an image; and pairs of
        a severity and a message.
    """
    counts, findings = {}, []
    whole = whole_name(name)
    if not records:
        return counts, findings
    make = f"make them with `python tools/generate_proposals.py --dataset {whole}`, or import them"
    for method in _stored_methods(whole) if methods is None else methods:
        path = proposals_path(name, method)
        try:
            if not path.exists():
                raise InputError(f"{path}: no such proposals; {make}")
            store = ProposalStore.open(path)
            store.check(records)
            made_for = records if name == whole else dataset_records(whole, boxes=False)
            if complete and store.header.get("image_digest") != image_list_digest(made_for):
                findings.append(("warning", f"{path}: was made for other images or another list of images; {make}"))
        except InputError as error:
            findings.append(("error", str(error)))
            continue
        sizes = np.array([len(store[record["image_id"]][1]) for record in records])
        counts[method] = {"mean": float(sizes.mean()), "min": int(sizes.min()), "max": int(sizes.max())}
    if not counts and not findings:
        findings.append(("note", f"no proposals, which the teacher needs; {make}"))
    return counts, findings


def _stored_methods(name: str) -> list[str]:
    """Return the methods and imported formats of the stores of a dataset. No format has an underscore in its name.

    The store of ``pets_train_small`` is not one of ``pets_train``.
    """
    prefix = f"{name}_"
    names = [path.name for path in proposals_path(name, "").parent.glob("*") if path.is_dir()]
    methods = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    return sorted(method for method in methods if method in PROPOSAL_METHODS or "_" not in method)
