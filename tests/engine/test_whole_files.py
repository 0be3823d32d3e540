"""Files are there whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from helpers.file_limit import largest_file
from mlickd.engine.whole_files import remove_unfinished, whole_file
from mlickd.errors import InputError


def test_a_file_has_what_was_written_and_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with whole_file(path, "") as file:
        for part in (b"ab", b"", b"c"):
            file.write(part)
        assert path.read_bytes() == b"old", "until the new one is whole"
    assert path.read_bytes() == b"abc" and file.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert [other.name for other in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_was_there_stays_where_writing_fails(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), whole_file(path, "") as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old" and [other.name for other in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("in_parts", [True, False])
def test_what_the_system_does_not_take_is_one_line(in_parts: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = {f"part {i}": torch.zeros(5_000) for i in range(20)} if in_parts else torch.zeros(100_000)
    with largest_file(100_000), pytest.raises(InputError) as caught, whole_file(path, "make room") as file:
        torch.save(content, file)
    assert str(caught.value) == f"{path}: cannot be written (File too large); make room"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "file"
    with pytest.raises(InputError, match=r"missing/file: cannot be written \(No such file or directory\); remedy"):
        with whole_file(path, "remedy"):
            pass


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "model_0000001.pth.unfinished").write_bytes(b"half")
    (tmp_path / "model_0000000.pth").write_bytes(b"whole")
    assert remove_unfinished(tmp_path) == ["model_0000001.pth.unfinished"]
    assert [path.name for path in tmp_path.iterdir()] == ["model_0000000.pth"]
