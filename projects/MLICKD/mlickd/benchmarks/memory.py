"""Resident memory of processes, with shared pages counted once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

__all__ = ["own_memory", "peak_memory", "resident_memory", "resident_together"]

_FIELDS = ("Rss", "Pss", "Pss_Anon", "Pss_Shmem", "Anonymous")


def resident_memory(pid: int) -> dict[str, int]:
    """Resident memory of a process, in bytes, as Linux accounts for it.

    Returns:
        ``Rss``: all resident pages, with those that other processes share. ``Pss``: a page that n processes share
        counts 1/n, so that the sum over processes counts every page once; ``Pss_Anon`` and ``Pss_Shmem`` are the parts
        of it that are no mapped files. ``Anonymous``: that part of ``Rss``. Empty where the system does not tell.
    """
    return _fields(Path(f"/proc/{pid}/smaps_rollup"), _FIELDS)


def resident_together(processes: Collection[Mapping[str, int]]) -> int:
    """Bytes of a process and its forks if nothing else ran on the machine.

    The sum of PSS is less where other programs have the same libraries mapped. Here mapped files are taken whole, from
    the process that has most of them resident.

    Args:
        processes: `resident_memory` of each.
    """
    files = max(values["Rss"] - values["Anonymous"] - values["Pss_Shmem"] for values in processes)
    return own_memory(processes) + files


def own_memory(processes: Collection[Mapping[str, int]]) -> int:
    """Bytes that a process and its forks hold together and that are no mapped files.

    Pages of mapped files come and go as the system has room for them.

    Args:
        processes: `resident_memory` of each.
    """
    return sum(values["Pss_Anon"] + values["Pss_Shmem"] for values in processes)


def peak_memory(pid: int) -> int | None:
    """The largest resident set that a process has had, in bytes; None where the system does not tell."""
    return _fields(Path(f"/proc/{pid}/status"), ("VmHWM",)).get("VmHWM")


def _fields(path: Path, names: Sequence[str]) -> dict[str, int]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    table = {line.partition(":")[0]: line.partition(":")[2].split() for line in lines}
    return {name: 1024 * int(table[name][0]) for name in names if name in table}
