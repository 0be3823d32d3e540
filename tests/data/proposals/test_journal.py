from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from mlickd.data.proposals.journal import ProposalJournal
from mlickd.errors import InputError

BOXES = np.arange(12, dtype=np.float32).reshape(3, 4)
SCORES = np.array([3, 2, 1], dtype=np.float32)
KEY = {"method": "m", "parameters": {"a": 1}}


def fill(path: Path) -> None:
    with ProposalJournal(path, KEY) as journal:
        journal.append("é.jpg", BOXES, SCORES)
        journal.append(7, BOXES[:0], SCORES[:0])
        journal.append("b", BOXES[:1], SCORES[:1])


def test_is_continued_where_it_stopped(tmp_path: Path) -> None:
    fill(tmp_path / "j")
    with ProposalJournal(tmp_path / "j", KEY) as journal:
        assert journal.done == {"é.jpg", "7", "b"}
        journal.append("c", BOXES[1:], SCORES[1:])
        items = list(journal)
        assert [image_id for image_id, _, _ in items] == ["é.jpg", "7", "b", "c"]
        np.testing.assert_array_equal(items[0][1], BOXES)
        np.testing.assert_array_equal(items[0][2], SCORES)
        np.testing.assert_array_equal(items[3][1], BOXES[1:])
        assert items[1][1].shape == (0, 4)
        journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_cut_anywhere_loses_the_last_record_alone(tmp_path: Path) -> None:
    path = tmp_path / "j"
    ends = []
    with ProposalJournal(path, KEY) as journal:
        ends.append(path.stat().st_size)
        for name in ("a", "b"):
            journal.append(name, BOXES, SCORES)
            ends.append(path.stat().st_size)
    data = path.read_bytes()
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        with ProposalJournal(path, KEY) as journal:
            whole = max(0, sum(length >= end for end in ends) - 1)
            assert len(journal.done) == whole
            for name in ("a", "b")[whole:]:
                journal.append(name, BOXES, SCORES)
        assert path.read_bytes() == data


def test_a_damaged_record_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path)
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    with ProposalJournal(path, KEY) as journal:
        assert journal.done == {"é.jpg", "7"}


def test_another_key_starts_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path / "j")
    with caplog.at_level(logging.WARNING):
        with ProposalJournal(tmp_path / "j", {**KEY, "method": "other"}) as journal:
            assert journal.done == set() and list(journal) == []
    assert "other settings or images; starting again" in caplog.text


def test_a_full_disk_loses_the_last_image_alone(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # a limit on the size of files is as good as a disk of that size
    path = tmp_path / "j"
    fill(path)
    before = path.read_bytes()
    with ProposalJournal(path, KEY) as journal:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limit[1]))
        try:
            with pytest.raises(InputError, match=r"j: cannot be written \(.*\); make room there and run the same"):
                journal.append("c", BOXES, SCORES)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert path.read_bytes() == before and journal.done == {"é.jpg", "7", "b"}
        journal.append("d", BOXES[:1], SCORES[:1])
    with ProposalJournal(path, KEY) as journal:
        assert [image_id for image_id, _, _ in journal] == ["é.jpg", "7", "b", "d"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "j").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"j: cannot be written \(.*\); choose another place"):
        ProposalJournal(tmp_path / "j", KEY)


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written .*; choose another place"):
        ProposalJournal(tmp_path / "file" / "j", KEY)
