"""Files are there whole or not at all."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers.file_limit import largest_file
from mlickd.errors import InputError
from mlickd.files import remove_unfinished, whole_file, write_whole_file


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


def test_what_is_read_meanwhile_is_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="input"), whole_file(tmp_path / "file", "make room") as file:
        file.write((tmp_path / "input").read_bytes())
    assert list(tmp_path.iterdir()) == []


def test_rights_and_long_names_stay(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)  # of two bytes each
    path.touch(mode=0o600)
    write_whole_file(path, "private", "")
    assert path.read_text() == "private" and path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "file"
    with pytest.raises(InputError, match=r"missing/file: cannot be written \(No such file or directory\); remedy"):
        with whole_file(path, "remedy"):
            pass


def test_its_folder_is_made_where_that_is_asked_for(tmp_path: Path) -> None:
    write_whole_file(tmp_path / "new" / "folder" / "file", "Ünïcode\n", "remedy", parents=True)
    assert (tmp_path / "new" / "folder" / "file").read_bytes() == "Ünïcode\n".encode()
    (tmp_path / "text").write_text("no folder")
    with pytest.raises(InputError, match=r"text/file: cannot be written \(File exists\); remedy"):
        write_whole_file(tmp_path / "text" / "file", "", "remedy", parents=True)


def test_two_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole_file(path, "") as first, whole_file(path, "") as second:
        first.write(b"first")
        second.write(b"the second")
    assert path.read_bytes() == b"first", "of the one that ended last"
    assert [other.name for other in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    write_whole_file(tmp_path / "link", "new", "")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "elsewhere" / "file").read_text() == "new"
    assert len(list(tmp_path.rglob("*"))) == 3


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no such device")
@pytest.mark.parametrize("into_file", [True, False])
def test_the_standard_output_is_written_to(into_file: bool, tmp_path: Path) -> None:
    """As a command does with ``--json /dev/stdout``."""
    code = "from mlickd.files import write_whole_file; write_whole_file('/dev/stdout', 'all', '')"
    with (tmp_path / "out").open("wb") as file:
        done = subprocess.run([sys.executable, "-c", code], stdout=file if into_file else subprocess.PIPE, check=True)
    assert ((tmp_path / "out").read_bytes() if into_file else done.stdout) == b"all"


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    code = f"""
import os, signal
from mlickd.files import whole_file
with whole_file({str(tmp_path / "last")!r}, "") as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    # As an earlier version has called it.
    (tmp_path / "model_0000001.pth.unfinished").write_bytes(b"half")
    (tmp_path / "model_0000000.pth").write_bytes(b"whole")
    last, model = remove_unfinished(tmp_path)
    assert last.startswith("last.") and model == "model_0000001.pth.unfinished"
    assert [path.name for path in tmp_path.iterdir()] == ["model_0000000.pth"]
