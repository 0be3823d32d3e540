"""Datasets whose place and form are known, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..records import MultiLabelDataset


@dataclass(frozen=True)
class DatasetSource:
    """Where a dataset lies and how it is read.

    Attributes:
        files: files and directories without which it is not there.
        load: reads it.
        metadata: goes into Detectron2's metadata of it, beside what every dataset has.
    """

    files: tuple[Path, ...]
    load: Callable[[], MultiLabelDataset]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def is_here(self) -> bool:
        """Whether all of its files are there."""
        return all(path.exists() for path in self.files)
