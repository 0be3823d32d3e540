"""Checkpoints of a run: written whole or not at all, and checked before a run is resumed from them."""

from __future__ import annotations

import json
import logging
import re
from itertools import count
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from torch import nn

from mlickd.errors import InputError
from mlickd.files import file_digest, remove_unfinished, whole_file, write_whole_file
from mlickd.modeling.checkpoint import check_fits, read_file
from mlickd.runs import STUDENT_CHECKPOINT

__all__ = ["DIGESTS", "FINAL", "RunCheckpointer", "checkpoint_name", "saved_checkpoints"]

logger = logging.getLogger(__name__)

# Detectron2's name of the checkpoint of a finished run, without ".pth".
FINAL = "model_final"
# File with the SHA-256 of each checkpoint by its name, the oldest first.
DIGESTS = "checkpoints.json"
# Detectron2's file with the name of the last checkpoint.
_LAST = "last_checkpoint"
# This file exists while a new run takes over the folder. If the run is killed meanwhile, it is not resumed from the
# checkpoints of the run before it.
_STARTING = "starting_anew"
_PERIODIC = re.compile(r"model_\d{7}\.pth")


def checkpoint_name(iteration: int) -> str:
    """Return Detectron2's name of the checkpoint after an iteration, counted from 0, without ``.pth``."""
    return f"model_{iteration:07d}"


def saved_checkpoints(folder: Path) -> list[str]:
    """Return the names of the checkpoints of the run in ``folder``, the newest first.

    The first may be missing, and any may be damaged.
    """
    if (folder / _STARTING).exists():
        return []
    tag = folder / _LAST
    last = [Path(tag.read_text(errors="replace").strip()).name] if tag.exists() else []
    # Digests are written before the tag: a run that is killed in between has one more.
    others = [name for name in reversed(_read_digests(folder)) if name not in last and (folder / name).exists()]
    return [*last, *others]


class RunCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer for a run in its ``OUTPUT_DIR``, which may be killed at any moment.

    Files have Detectron2's format. Loading never runs code from a file.
    """

    def __init__(self, model: nn.Module, save_dir: str, *, keep: int = 0, **checkpointables: Any):
        """
        Args:
            model: model, also in DistributedDataParallel.
            save_dir: folder on a local file system; all processes see it.
            keep: number of checkpoints of ``SOLVER.CHECKPOINT_PERIOD`` to keep, the newest ones; 0 keeps all.
            checkpointables: see Detectron2.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.keep = keep
        self.folder = Path(save_dir)
        # SHA-256 of the checkpoints of this run by file name, the oldest first.
        self._digests: dict[str, str] = {}

    def save(self, name: str, **kwargs: Any) -> None:
        """Write a checkpoint and its digest, then remove the oldest ones if there are more than ``keep``.

        Raises:
            InputError: the disk does not take the file; earlier checkpoints stay.
        """
        if not self.save_to_disk:
            return
        content = {"model": self.model.state_dict()}
        content |= {key: thing.state_dict() for key, thing in self.checkpointables.items()} | kwargs
        file_name = f"{name}.pth"
        logger.info("Saving checkpoint to %s", self.folder / file_name)
        if self._digests.pop(file_name, None):
            # If the run is killed before the new digest is written, the new file must not look damaged.
            self._write_digests()
        with whole_file(self.folder / file_name, self._remedy()) as file:
            torch.save(content, file)
        self._digests[file_name] = file.sha256
        self._write_digests()
        self.tag_last_checkpoint(file_name)
        self._prune()

    def has_checkpoint(self) -> bool:
        """Return whether the run has a checkpoint; all processes call this together and get the same answer.

        Raises:
            InputError: some processes see a checkpoint that others do not see.
        """
        seen = comm.all_gather(bool(saved_checkpoints(self.folder)))
        if any(seen) and not all(seen):
            raise InputError(
                f"--resume: process {seen.index(False) + 1} of {len(seen)} does not see the checkpoint in "
                f"{self.folder}; name an OUTPUT_DIR that all machines share"
            )
        return seen[0]

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of the last checkpoint, see Detectron2."""
        write_whole_file(self.folder / _LAST, last_filename_basename, self._remedy())

    def start_anew(self, weights: str = "") -> None:
        """Forget the checkpoints of an earlier run in the same folder; its results for use get another name.

        Args:
            weights: path of the checkpoint that this run starts from. It keeps its name, because the same command
                needs it again if the run is killed before its first checkpoint.
        """
        if not comm.is_main_process():
            return
        self._remove_unfinished()
        bookkeeping = [self.folder / name for name in (_LAST, DIGESTS, _STARTING)]
        if any(path.exists() for path in bookkeeping):
            write_whole_file(self.folder / _STARTING, "", "make room, then give the same command again")
        for name in (f"{FINAL}.pth", STUDENT_CHECKPOINT):
            path = self.folder / name
            if path.exists() and not (weights and path.resolve() == Path(weights).resolve()):
                kept = _free_name(path)
                path.rename(kept)
                logger.warning("%s belongs to an earlier run; it is renamed to %s", path, kept.name)
        for path in bookkeeping:
            path.unlink(missing_ok=True)

    def resume(self) -> str:
        """Load the newest undamaged checkpoint and return its file name.

        Raises:
            InputError: all checkpoints are damaged, or the checkpoint belongs to another model.
        """
        found = None
        if comm.is_main_process():
            self._remove_unfinished()
            found = self._newest_whole()
        name, damage = comm.all_gather(found)[0]
        if not name:
            raise InputError(
                f"--resume: all checkpoints in {self.folder} are damaged: {damage}; put one back from a copy, or start "
                "anew without --resume"
            )
        self.load(str(self.folder / name))
        if comm.is_main_process() and self._digests:
            # Before the digest of a damaged checkpoint goes: killed now, the run must not be resumed from that file.
            self.tag_last_checkpoint(name)
            self._write_digests()
        return name

    def _newest_whole(self) -> tuple[str, str]:
        """Return the file name, empty if there is none, and the damage of the newer files."""
        self._digests = _read_digests(self.folder)
        damage: list[str] = []
        for name in saved_checkpoints(self.folder):
            found = self._damage(name)
            if found:
                damage.append(f"{name} {found}")
                continue
            if damage:
                logger.warning("--resume: %s; going on from %s, the one before", "; ".join(damage), name)
            names = list(self._digests)
            for later in names[names.index(name) + 1 :] if name in names else []:
                del self._digests[later]  # the run writes these checkpoints once more
            return name, ""
        return "", "; ".join(damage)

    def _damage(self, name: str) -> str:
        """Return what is wrong with a file; empty if nothing is."""
        path = self.folder / name
        if not path.is_file():
            return "is missing"
        # A checkpoint of Detectron2 has no digest.
        whole = name not in self._digests or file_digest(path) == self._digests[name]
        return "" if whole else f"is damaged (its SHA-256 is not that in {DIGESTS})"

    def _prune(self) -> None:
        periodic = [name for name in self._digests if _PERIODIC.fullmatch(name)]
        old = periodic[: -self.keep] if self.keep > 0 else []
        for name in old:
            (self.folder / name).unlink(missing_ok=True)
            del self._digests[name]
        if old:
            self._write_digests()

    def _write_digests(self) -> None:
        write_whole_file(self.folder / DIGESTS, json.dumps(self._digests, indent=1), self._remedy())

    def _remove_unfinished(self) -> None:
        # Only these folders: other runs may write into subfolders of their own.
        for folder in (self.folder, *self.folder.glob("inference/*/")):
            for name in remove_unfinished(folder):
                logger.info("Removed %s, which a killed run has left", folder / name)

    def _remedy(self) -> str:
        good = [name for name in self._digests if (self.folder / name).exists()]
        state = f"{good[-1]} is complete" if good else "there is no earlier checkpoint"
        return f"{state}; make room, then give the same command with --resume"

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Read a checkpoint without unpickling objects, and check that it belongs to a run of this model."""
        content = read_file(filename, "--resume")
        if not isinstance(content, dict) or not {"model", "trainer"} <= content.keys():
            raise InputError(f"--resume {filename}: is not a checkpoint of a run; start anew without --resume")
        check_fits(self.model, content["model"], "--resume", filename)
        return content


def _read_digests(folder: Path) -> dict[str, str]:
    path = folder / DIGESTS
    try:
        # Only names: a path in the file must not lead out of the folder.
        return {name: value for name, value in json.loads(path.read_text()).items() if Path(name).name == name}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError):
        logger.warning("%s is damaged; checkpoints are checked without it", path)
        return {}


def _free_name(path: Path) -> Path:
    names = (f"{path.stem}.previous{'' if number == 1 else number}{path.suffix}" for number in count(1))
    return next(free for name in names if not (free := path.with_name(name)).exists())
