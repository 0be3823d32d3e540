"""Whether the proposals of a dataset are there, complete and sane."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlickd.errors import InputError

from ..catalog import dataset_records
from ..parts import whole_name
from ..proposals.generation import image_list_digest
from ..proposals.methods import PROPOSAL_METHODS
from ..proposals.store import ProposalStore, proposals_path

__all__ = ["check_proposals"]


def check_proposals(
    name: str, records: Sequence[dict], methods: Sequence[str] | None = None, *, complete: bool = True
) -> Iterator[tuple[str, str]]:
    """Open the stores of a dataset and check every box.

    Args:
        name: name of the dataset. A part shares the store of the whole dataset.
        records: dicts with ``image_id``, ``height`` and ``width``, of readable images.
        methods: methods whose store must be there; None checks all stores that are there, made or imported.
        complete: whether these are all records of the dataset, whose digest a store made for it has.

    Yields:
        A severity and a message.
    """
    whole = whole_name(name)
    make = f"make them with `python tools/generate_proposals.py --dataset {whole}`, or import them"
    # No imported format has an underscore in its name. The store of pets_train_small is not one of pets_train.
    folders = sorted(path.name for path in proposals_path(whole, "").parent.glob("*") if path.is_dir())
    stored = [folder.removeprefix(f"{whole}_") for folder in folders if folder.startswith(f"{whole}_")]
    stored = [method for method in stored if method in PROPOSAL_METHODS or "_" not in method]
    if not stored and not methods:
        yield "note", f"no proposals, which the teacher needs; {make}"
    for method in stored if methods is None else methods:
        path = proposals_path(name, method)
        try:
            if not path.exists():
                raise InputError(f"{path}: no such proposals; {make}")
            store = ProposalStore.open(path)
            store.check(records)
            made_for = records if name == whole else dataset_records(whole, boxes=False)
            if complete and store.header.get("image_digest") != image_list_digest(made_for):
                yield "warning", f"{path}: was made for other images or another list of images; {make}"
        except InputError as error:
            yield "error", str(error)
