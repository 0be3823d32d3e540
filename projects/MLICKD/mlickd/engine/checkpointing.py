"""Checkpoints that are whole or not there, and that are looked at before a run goes on from them."""

from __future__ import annotations

import json
import re
import zipfile
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
from mlickd.runs import DIGESTS, LAST, STUDENT_CHECKPOINT, forgetting_checkpoints, read_digests, saved_checkpoints

__all__ = ["FINAL", "RunCheckpointer", "checkpoint_name"]

# What Detectron2 calls the checkpoint of a finished run, without ``.pth``.
FINAL = "model_final"
_PERIODIC = re.compile(r"model_\d{7}\.pth")


def checkpoint_name(iteration: int) -> str:
    """What Detectron2 calls the checkpoint after this iteration, from 0, without ``.pth``."""
    return f"model_{iteration:07d}"


class RunCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpoints of a run in its ``OUTPUT_DIR``, saved so that a process can be killed at any moment.

    Files are as Detectron2 writes them. Loading never runs code that a file may hold.
    """

    def __init__(self, model: nn.Module, save_dir: str, *, keep: int = 0, **checkpointables: Any):
        """
        Args:
            model: also within DistributedDataParallel.
            save_dir: on a local file system; all processes see it.
            keep: how many of the checkpoints of ``SOLVER.CHECKPOINT_PERIOD`` stay, the newest ones. 0: all of them.
            checkpointables: of Detectron2.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.keep = keep
        self.folder = Path(save_dir)
        # Names of the files of this run and their SHA-256, in the order in which they were saved.
        self._digests: dict[str, str] = {}
        self._saved = ""

    def save(self, name: str, **kwargs: Any) -> None:
        """As Detectron2, and with the digest of the file; then the oldest are removed where ``keep`` says so.

        Raises:
            InputError: the disk does not take it. The checkpoints before stay.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        content = {"model": self.model.state_dict()}
        content |= {key: thing.state_dict() for key, thing in self.checkpointables.items()} | kwargs
        file_name = f"{name}.pth"
        self.logger.info("Saving checkpoint to %s", self.folder / file_name)
        if self._digests.pop(file_name, None):
            # Killed now, the new file would be taken for a damaged old one.
            self._write_digests()
        with whole_file(self.folder / file_name, self._remedy()) as file:
            torch.save(content, file)
        self._digests[file_name] = file.sha256
        self._write_digests()
        self.tag_last_checkpoint(file_name)
        self._saved = file_name
        self._prune()

    def has_checkpoint(self) -> bool:
        """As Detectron2, and the same in all processes, which ask together.

        Raises:
            InputError: some see a checkpoint, and others do not.
        """
        seen = comm.all_gather(bool(saved_checkpoints(self.folder)))
        if any(seen) and not all(seen):
            blind = f"process {seen.index(False) + 1} of {len(seen)}"
            raise InputError(
                f"--resume: {blind} does not see the checkpoint in {self.folder} that others see; name an OUTPUT_DIR "
                "that all machines share"
            )
        return seen[0]

    def has_saved(self, name: str) -> bool:
        """Whether this is the last that this process has saved."""
        return self._saved == f"{name}.pth"

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """As Detectron2."""
        write_whole_file(self.folder / LAST, last_filename_basename, self._remedy())

    def start_anew(self, weights: str = "") -> None:
        """Forget the checkpoints of another run in the same folder, so that this one never goes on from them.

        What that run has left for use gets another name, so that it is not taken for this one's.

        Args:
            weights: what this run starts from. It keeps its name, for until the first checkpoint it is asked for again.
        """
        if not comm.is_main_process():
            return
        self._remove_unfinished()
        with forgetting_checkpoints(self.folder):
            for name in (f"{FINAL}.pth", STUDENT_CHECKPOINT):
                path = self.folder / name
                if path.exists() and not (weights and path.resolve() == Path(weights).resolve()):
                    kept = _free_name(path)
                    path.rename(kept)
                    self.logger.warning("%s is of another run; it is %s now", path, kept.name)

    def resume(self) -> str:
        """Load all of the newest checkpoint that is whole.

        Returns:
            The name of its file.

        Raises:
            InputError: there is none, or it is not of this model.
        """
        if comm.is_main_process():
            self._remove_unfinished()
            found = self._newest_whole()
        else:
            found = None
        name, damage = comm.all_gather(found)[0]
        if not name:
            raise InputError(
                f"--resume: no checkpoint in {self.folder} is whole: {damage}; put one back from a copy, or start anew "
                "without --resume"
            )
        self.load(str(self.folder / name))
        if comm.is_main_process() and self._digests:
            self._write_digests()  # without those that are made once more
        return name

    def _newest_whole(self) -> tuple[str, str]:
        """Name of the file, empty where there is none, and what is wrong with those that were looked at before it."""
        self._digests = read_digests(self.folder)
        damage: list[str] = []
        for name in saved_checkpoints(self.folder):
            found = self._damage(name)
            if not found:
                if damage:
                    self.logger.warning("--resume: %s; going on from %s, the one before", "; ".join(damage), name)
                self._forget_behind(name)
                return name, ""
            damage.append(f"{name} {found}")
        return "", "; ".join(damage)

    def _damage(self, name: str) -> str:
        """What is wrong with a file; empty where it is as it was written."""
        path = self.folder / name
        if not path.is_file():
            return "is missing"
        if name in self._digests:
            return (
                "" if file_digest(path) == self._digests[name] else f"is damaged (its SHA-256 is not that in {DIGESTS})"
            )
        # Of an earlier version of this project, or of Detectron2: PyTorch's files are zip archives with checksums.
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
            return f"is damaged ({error})"
        return f"is damaged (in {damaged})" if damaged else ""

    def _forget_behind(self, name: str) -> None:
        """The run makes those once more that were saved behind the one that it goes on from."""
        names = list(self._digests)
        if name in names:
            self._digests = {kept: self._digests[kept] for kept in names[: names.index(name) + 1]}

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
        # No deeper: other runs may be at work in folders of their own.
        for folder in (self.folder, *self.folder.glob("inference/*/")):
            for name in remove_unfinished(folder):
                self.logger.info("Removed %s, which a killed run has left", folder / name)

    def _remedy(self) -> str:
        good = [name for name in self._digests if (self.folder / name).exists()]
        there = f"{good[-1]} is whole" if good else "no checkpoint was saved before"
        return f"{there}; make room, then give the same command with --resume"

    def _load_file(self, filename: str) -> dict[str, Any]:
        """As Detectron2, but nothing else than what a run has saved, and never by unpickling objects."""
        content = read_file(filename, "--resume")
        if not isinstance(content, dict) or not {"model", "trainer"} <= content.keys():
            raise InputError(f"--resume {filename} is no checkpoint of a run; start anew without --resume")
        check_fits(self.model, content["model"], "--resume", filename)
        return content


def _free_name(path: Path) -> Path:
    """For a file of another run, beside it."""
    names = (f"{path.stem}.previous{'' if number == 1 else number}{path.suffix}" for number in count(1))
    return next(free for name in names if not (free := path.with_name(name)).exists())
