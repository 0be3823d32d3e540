"""Digests of files, each computed once in a process."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache

__all__ = ["file_digest"]


def file_digest(path: str | os.PathLike[str], start: int = 0) -> str:
    """SHA-256, in hexadecimal, of a file from byte ``start`` on.

    A file is read again where its size or its time of change is another.
    """
    status = os.stat(path)
    return _digest(os.path.abspath(path), start, status.st_size, status.st_mtime_ns)


@lru_cache
def _digest(path: str, start: int, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(start)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
