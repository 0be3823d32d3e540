"""Files are written atomically, paths are checked, digests agree with hashlib."""

import hashlib
import os
from pathlib import Path

import pytest
import torch

import mlickd.files
from helpers.limits import largest_file
from mlickd.errors import InputError
from mlickd.files import atomic_writer, check_writable, file_digest, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_replaces_the_old_one_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_writer(path, "") as file:
        for part in (b"ab", b"", b"c"):
            file.write(part)
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"abc"
    with pytest.raises(KeyboardInterrupt), atomic_writer(path, "") as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"abc" and names(tmp_path) == ["file"]
    with atomic_writer(path, "") as first, atomic_writer(path, "") as second:
        first.write(b"first")
        second.write(b"the second")
    assert path.read_bytes() == b"first" and names(tmp_path) == ["file"], "the file that is closed last stays"


@pytest.mark.parametrize("parts", [1, 20])
def test_a_full_disk_is_one_line_and_no_file_stays(parts: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with largest_file(100_000), pytest.raises(InputError, match=rf"^{path}: .*File too large.*; make room$"):
        with atomic_writer(path, "make room") as file:
            torch.save([torch.zeros(100_000 // parts) for _ in range(parts)], file)
    assert names(tmp_path) == []


def test_permissions_links_and_long_names_are_kept(tmp_path: Path) -> None:
    target = tmp_path / ("é" * 127)  # two bytes per letter
    target.touch(mode=0o600)
    (tmp_path / "link").symlink_to(target)
    write_atomic(tmp_path / "link", "private", "")
    assert target.read_text() == "private" and target.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "link").is_symlink() and len(names(tmp_path)) == 2


def test_folders_are_created(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_atomic(path, "Ünïcode\n", "remedy")
    assert path.read_bytes() == "Ünïcode\n".encode()
    with pytest.raises(InputError, match="file/other: .*; remedy"):
        write_atomic(path / "other", "", "remedy")


def test_a_device_is_written_directly() -> None:
    """Commands accept ``--json /dev/stdout``."""
    reading, writing = os.pipe()
    write_atomic(f"/dev/fd/{writing}", "all", "")
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "all"


def test_a_path_is_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("content")
    for path in ("file", "new", "new/and/deeper"):
        check_writable(tmp_path / path)
    check_writable("/dev/null")
    for path in (tmp_path / "file/new", tmp_path):
        with pytest.raises(InputError, match=rf"^{path}: "):
            check_writable(path)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # a superuser has all permissions
    with pytest.raises(InputError, match="^/dev/null: "):
        check_writable("/dev/null")
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "content"


def test_a_digest_is_computed_again_only_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(mlickd.files, "open", lambda *a: opened.append(a) or open(*a), raising=False)
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 5000)
    assert {file_digest(path) for _ in range(3)} == {hashlib.sha256(path.read_bytes()).hexdigest()}
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert file_digest(path) == hashlib.sha256(b"two").hexdigest() and len(opened) == 2
