"""What a check has found, by severity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["SEVERITIES", "Finding", "counted"]

# Errors: training or evaluation would stop or be wrong. Warnings: look at them. Notes: good to know.
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: one of `SEVERITIES`.
        dataset: name of the dataset.
        message: one line: what it is, and what to do.
        examples: every file, image or class concerned.
    """

    severity: str
    dataset: str
    message: str
    examples: Sequence[str] = field(default=())


def counted(count: int, one: str, many: str) -> str:
    """The number with the words for one thing or for many."""
    return f"{count} {one if count == 1 else many}"
