"""Write the checkpoints of a run atomically, and decide whether to resume from them."""

import logging
import re
import shutil
import zipfile
from itertools import count
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from mlickd.errors import InputError
from mlickd.files import atomic_writer, remove_unfinished, write_atomic
from mlickd.modeling.checkpoint import check_fits, read_file
from mlickd.runs import STUDENT_CHECKPOINT
from mlickd.thresholds import THRESHOLDS_FILE

logger = logging.getLogger(__name__)

# Detectron2's name of the checkpoint of a finished run, without ".pth".
FINAL = "model_final"
# Detectron2's file with the name of the last checkpoint.
_LAST = "last_checkpoint"
_PERIODIC = re.compile(r"model_\d{7}\.pth")
_CHECKPOINT = re.compile(rf"{_PERIODIC.pattern}|{re.escape(f'{FINAL}.pth')}")
_EARLIER = re.compile(rf"{_CHECKPOINT.pattern}|{re.escape(STUDENT_CHECKPOINT)}")


def checkpoint_name(iteration: int) -> str:
    """Return Detectron2's name of the checkpoint after an iteration, counted from 0, without ``.pth``."""
    return f"model_{iteration:07d}"


def decide_to_resume(folder: str, requested: bool) -> bool:
    """Return whether to resume the run in ``folder``: ``requested`` is True, and the run has saved a checkpoint.

    All processes call this function together, and get the same answer.

    Raises:
        InputError: some processes see a checkpoint that others do not see.
    """
    seen = comm.all_gather(requested and bool(saved_checkpoints(Path(folder))))
    if any(seen) and not all(seen):
        raise InputError(
            f"--resume: process {seen.index(False) + 1} of {len(seen)} does not see the checkpoint in {folder}; name "
            "an OUTPUT_DIR that all machines share"
        )
    return seen[0]


def saved_checkpoints(folder: Path) -> list[str]:
    """Return the names of a run's checkpoints, newest first.

    The files are not checked: the one that the tag names may be missing, and any may be damaged.
    """
    tag = folder / _LAST
    if not tag.exists():
        return []
    last = Path(tag.read_text(errors="replace").strip()).name
    periodic = sorted(
        (path.name for path in folder.glob("model_*.pth") if _PERIODIC.fullmatch(path.name)), reverse=True
    )
    if not _CHECKPOINT.fullmatch(last):  # the tag is damaged
        return periodic
    # A run that was killed between a checkpoint and the tag leaves a newer file, which is left out. model_final sorts
    # after all numbers.
    return [last, *(name for name in periodic if name < last)]


def check_initial_weights(folder: Path, weights: str, field: str) -> None:
    """Check that a new run in ``folder`` does not start from a checkpoint there, which it renames.

    Raises:
        InputError: it does; the message names the configuration key ``field``.
    """
    path = Path(weights).resolve()
    if path.parent == folder.resolve() and _EARLIER.fullmatch(path.name):
        raise InputError(
            f"{field} {weights}: is in OUTPUT_DIR, whose files a new run replaces; give another OUTPUT_DIR"
        )


class RunCheckpointer(Checkpointer):
    """The checkpointer of a run that may be killed at any moment.

    Files have Detectron2's format. Loading never runs code from a file. This class does not derive from
    DetectionCheckpointer, which reads paths as URLs: it drops everything after a question mark.
    """

    def __init__(self, model: nn.Module, save_dir: str, *, keep: int = 0, **checkpointables: Any):
        """See fvcore's Checkpointer. The run keeps only the newest ``keep`` periodic checkpoints; 0 keeps all."""
        super().__init__(model, save_dir, save_to_disk=comm.is_main_process(), **checkpointables)
        self.keep = keep
        self.folder = Path(save_dir)

    def save(self, name: str, **kwargs: Any) -> None:
        """Write a checkpoint, then remove the oldest periodic checkpoints beyond ``keep``.

        Raises:
            InputError: the file cannot be written, for example because the disk is full; earlier checkpoints stay.
        """
        if not self.save_to_disk:
            return
        content = {"model": self.model.state_dict()}
        content |= {key: thing.state_dict() for key, thing in self.checkpointables.items()} | kwargs
        file_name = f"{name}.pth"
        if name == FINAL:  # if the run is killed during its evaluation, earlier results must not look like its own
            for path in self._results():
                path.unlink() if path.is_file() else shutil.rmtree(path)
        logger.info("Saving checkpoint to %s", self.folder / file_name)
        with atomic_writer(self.folder / file_name, self._remedy()) as file:
            torch.save(content, file)
        self.tag_last_checkpoint(file_name)
        periodic = [name for name in saved_checkpoints(self.folder) if _PERIODIC.fullmatch(name)]
        for old in periodic[self.keep :] if self.keep > 0 else []:
            (self.folder / old).unlink(missing_ok=True)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of the last checkpoint as Detectron2 does, but never only a part of the file."""
        write_atomic(self.folder / _LAST, last_filename_basename, self._remedy())

    def rename_earlier_run(self) -> None:
        """Rename the checkpoints and results of an earlier run in the same folder."""
        if not comm.is_main_process():
            return
        self._remove_unfinished()
        # First, so that a run that is killed here does not continue from a checkpoint of the earlier run.
        (self.folder / _LAST).unlink(missing_ok=True)
        checkpoints = [path for path in sorted(self.folder.glob("*.pth")) if _EARLIER.fullmatch(path.name)]
        for path in (*checkpoints, *self._results()):
            new_names = (f"{path.stem}.previous{'' if n == 1 else n}{path.suffix}" for n in count(1))
            new_path = next(free for name in new_names if not (free := path.with_name(name)).exists())
            path.rename(new_path)
            logger.warning("%s belongs to an earlier run; it is renamed to %s", path, new_path.name)

    def resume(self) -> str:
        """Load the newest undamaged checkpoint and return its file name.

        Raises:
            InputError: all checkpoints are damaged, or the checkpoint belongs to another model.
        """
        found = None
        if comm.is_main_process():
            self._remove_unfinished()
            found = self._find_undamaged()
        name, damage = comm.all_gather(found)[0]
        if not name:
            raise InputError(
                f"--resume: all checkpoints in {self.folder} are damaged: {damage}; restore one from a copy, or start "
                "a new run without --resume"
            )
        self.load(str(self.folder / name))
        if comm.is_main_process():
            self.tag_last_checkpoint(name)
            for path in self.folder.glob("model_*.pth"):
                if _PERIODIC.fullmatch(path.name) and path.name > name:
                    path.unlink()  # damaged, or without a name in the tag; it must not count for the limit
        return name

    def _find_undamaged(self) -> tuple[str, str]:
        """Return the newest undamaged file and an empty text, or an empty text and a description of the damage."""
        damage: list[str] = []
        for name in saved_checkpoints(self.folder):
            path = self.folder / name
            if not path.is_file():
                damage.append(f"{name} is missing")
            elif not _is_undamaged(path):
                damage.append(f"{name} is damaged")
            else:
                if damage:
                    logger.warning("--resume: %s; continuing from the earlier %s", "; ".join(damage), name)
                return name, ""
        return "", "; ".join(damage)

    def _remove_unfinished(self) -> None:
        # Other subfolders may belong to other runs, which may be writing into them.
        for folder in (self.folder, *self.folder.glob("inference/*/")):
            for name in remove_unfinished(folder):
                logger.info("Removed %s, an unfinished file of a killed run", folder / name)

    def _results(self) -> list[Path]:
        """Return the existing files and folders with results of evaluations."""
        names = ("results.json", "results_TTA.json", "inference", "inference_TTA", THRESHOLDS_FILE)
        return [path for name in names if (path := self.folder / name).exists()]

    def _remedy(self) -> str:
        complete = [name for name in saved_checkpoints(self.folder) if (self.folder / name).exists()]
        state = f"{complete[0]} is complete" if complete else "the run has no earlier checkpoint"
        return f"{state}; free disk space, then give the same command with --resume"

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Read a checkpoint without unpickling objects, and check that it belongs to a run of this model."""
        content = read_file(filename, "--resume")
        if not isinstance(content, dict) or not {"model", "trainer"} <= content.keys():
            raise InputError(f"--resume {filename}: is not a checkpoint of a run; start a new run without --resume")
        check_fits(self.model, content["model"], "--resume", filename)
        return content


def _is_undamaged(path: Path) -> bool:
    """Check the CRC-32 that ``torch.save`` stores with each tensor, because ``torch.load`` does not check it."""
    try:
        with zipfile.ZipFile(path) as file:
            if file.testzip() is not None:
                return False
        read_file(str(path), "--resume", mmap=True)
    except Exception:  # a damaged file can raise any error
        return False
    return True
