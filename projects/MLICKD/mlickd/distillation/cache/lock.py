"""One process at a time writes a shard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlickd.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two processes apart
    fcntl = None

__all__ = ["shard_lock"]


@contextmanager
def shard_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a shard; it ends with the process, however that ends.

    Raises:
        InputError: another process holds it.
    """
    with (folder / "lock").open("ab") as file:
        if fcntl is not None:
            try:
                # A record lock is not passed on to the loader's workers, which may outlive a killed parent.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(f"{folder}: another process is writing this shard; wait for it") from error
        yield
