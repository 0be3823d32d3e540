"""A header that claims far more than the file has: it is refused before anything of that size is made."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.little_memory import in_little_memory, needs_limit
from mlickd.data import ProposalStore, write_store
from mlickd.data.proposals.files import read_detectron2_pickle
from mlickd.data.proposals.journal import ProposalJournal
from mlickd.distillation.cache.layout import ArraySpec, map_array
from mlickd.errors import InputError
from mlickd.evaluation.score_files import read_scores
from mlickd.export.pt2_archive import check_pt2

HUGE = 10**12
BOXES, SCORES = np.array([[0, 0, 4, 3]], dtype=np.float32), np.ones(1, dtype=np.float32)


def store(path: Path) -> None:
    """A header of a million million boxes, and images."""
    write_store(path, [("a.jpg", BOXES, SCORES)], method="grid", parameters={}, image_digest="")
    content = path.read_bytes()
    length = int.from_bytes(content[16:24], "little")
    header = json.loads(content[24 : 24 + length]) | {"num_boxes": HUGE, "num_images": HUGE}
    path.write_bytes(content[:16] + struct.pack("<Q", length + 40) + json.dumps(header).encode().ljust(length + 40))


def store_header(path: Path) -> None:
    """A header that is itself of that length."""
    path.write_bytes(b"MLICKDPR" + struct.pack("<QQ", 1, HUGE))


def journal(path: Path) -> None:
    """A record of 86 gigabytes."""
    path.write_bytes(b"{}\n" + struct.pack("<III", 0, 2**32 - 1, 2**32 - 1))


def array(path: Path, shape: tuple[int, ...] = (HUGE, 4)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    path.write_bytes(file.getvalue())
    return file.getvalue()


def scores(path: Path) -> None:
    """An array of which the header alone is there."""
    header = array(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scores.npy", header)


def packed_scores(path: Path) -> None:
    """Some 300 kilobytes that hold 300 megabytes of zeros."""
    header = array(path, (300 * 2**18,))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("scores.npy", "w") as entry:
        entry.write(header)
        for _ in range(300):
            entry.write(bytes(2**20))


def packed_graph(path: Path) -> None:
    """The same as the graph of an exported student."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("data/weights/model_weights_config", "data/constants/model_constants_config", "extra/mlickd"):
            archive.writestr(f"student/{name}.json", "{}")
        with archive.open("student/models/model.json", "w") as entry:
            for _ in range(300):
                entry.write(b" " * 2**20)


def pickled(path: Path) -> None:
    """A pickle with bytes of that length."""
    path.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", HUGE) + b"abc.")


CASES: dict[Callable[[Path], object], Callable[[Path], object]] = {
    store: ProposalStore.open,
    store_header: ProposalStore.open,
    array: lambda path: map_array(path.parent, path.stem, ArraySpec(np.dtype("<f4"), (HUGE, 4))),
    scores: lambda path: read_scores(str(path)),
    packed_scores: lambda path: read_scores(str(path)),
    packed_graph: lambda path: check_pt2(path.read_bytes(), str(path)),
    pickled: lambda path: list(read_detectron2_pickle(path)),
}


@needs_limit
@pytest.mark.parametrize("write", CASES)
def test_a_lying_header_takes_no_memory(write: Callable, tmp_path: Path) -> None:
    path = tmp_path / "lying.npy"
    write(path)
    said = in_little_memory(said_by, list(CASES).index(write), path)
    assert "lying.npy: " in said and "\n" not in said, said


def said_by(case: int, path: Path) -> str:
    """What the reader of a case says of a file."""
    try:
        CASES[list(CASES)[case]](path)
    except InputError as error:
        return str(error)
    return "it was read"


@needs_limit
def test_a_lying_record_of_a_journal_is_cut_off(tmp_path: Path) -> None:
    """As one that a kill has left unfinished."""
    journal(tmp_path / "journal")
    assert in_little_memory(records_in, tmp_path / "journal") == 0
    assert (tmp_path / "journal").read_bytes() == b"{}\n"


def records_in(path: Path) -> int:
    with ProposalJournal(path, {}) as opened:
        return len(list(opened))
