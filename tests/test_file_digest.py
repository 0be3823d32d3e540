"""Digests of files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import mlickd.files
from mlickd.files import file_digest


def test_a_digest_is_of_the_bytes_from_a_place_on(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 5000)
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file_digest(path, 100) == hashlib.sha256(path.read_bytes()[100:]).hexdigest()


def test_a_file_is_read_again_only_where_it_has_changed(tmp_path: Path, monkeypatch) -> None:
    opened = []
    monkeypatch.setattr(mlickd.files, "open", lambda *a: opened.append(a) or open(*a), raising=False)
    path = tmp_path / "file"
    path.write_bytes(b"one")
    before = [file_digest(path) for _ in range(3)]
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert file_digest(path) == hashlib.sha256(b"two").hexdigest()
    assert len(set(before)) == 1 and len(opened) == 2
