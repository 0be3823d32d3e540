"""Whether a file can be written is found out without a trace."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mlickd.errors import InputError
from mlickd.files import check_writable


@pytest.mark.parametrize("name", ["file", "new/file", "new/and/deeper/file", "there/new/file"])
def test_nothing_is_left_of_the_trial(name: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    check_writable(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to(tmp_path / "to come")
    for name in ("file", "link"):
        check_writable(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]
    assert (tmp_path / "file").read_text() == "content" and (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(("name", "problem"), [("file/new", "File exists"), ("folder", "Is a directory")])
def test_what_cannot_be_written_is_named(name: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=rf"{name}: cannot be written \({problem}\); give another path"):
        check_writable(tmp_path / name)


def test_a_folder_that_takes_no_further_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a folder without the right to write, which the superuser of a test always has."""
    (tmp_path / "file").write_text("content")

    def touch(path: Path, exist_ok: bool = True) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(InputError, match=r"file: cannot be written \(Permission denied\); give another path"):
        check_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "content"


def test_no_folder_is_left_of_a_trial_that_fails(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File name too long"):
        check_writable(tmp_path / "new" / "folder" / ("x" * 300))
    assert list(tmp_path.iterdir()) == []
