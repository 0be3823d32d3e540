"""Which checkpoints of a folder a run goes on from with ``--resume``."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlickd.whole_files import write_whole_file

__all__ = ["DIGESTS", "LAST", "forgetting_checkpoints", "read_digests", "saved_checkpoints"]

logger = logging.getLogger(__name__)

# File of a run, beside its checkpoints: the SHA-256 of each, in the order in which they were saved.
DIGESTS = "checkpoints.json"
# As Detectron2: the name of the last one.
LAST = "last_checkpoint"
# There while a run makes the folder its own. Killed meanwhile, it does not go on from what is left of another one.
_STARTING = "starting_anew"


def saved_checkpoints(folder: Path) -> list[str]:
    """Names of the checkpoints, the newest first. The first may be missing, and any be damaged."""
    if (folder / _STARTING).exists():
        return []
    tag = folder / LAST
    last = [Path(tag.read_text(errors="replace").strip()).name] if tag.exists() else []
    # The digests are written before the tag: killed in between, they have one more.
    others = [name for name in reversed(read_digests(folder)) if name not in last and (folder / name).exists()]
    return [*last, *others]


def read_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of the checkpoints by their names, the oldest first; none where the list is missing or damaged."""
    path = folder / DIGESTS
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        logger.warning("%s is damaged; checkpoints are looked at without it", path)
        return {}
    # Names alone: what stands in a file never leads out of the folder.
    return {name: value for name, value in content.items() if Path(name).name == name}


@contextmanager
def forgetting_checkpoints(folder: Path) -> Iterator[None]:
    """Forget the checkpoints of another run, whose files stay, in one step with what is done within.

    Raises:
        InputError: the folder cannot be written to.
    """
    if not any((folder / name).exists() for name in (LAST, DIGESTS, _STARTING)):
        yield
        return
    write_whole_file(folder / _STARTING, "", "make room, then give the same command again")
    yield
    for name in (LAST, DIGESTS, _STARTING):
        (folder / name).unlink(missing_ok=True)
