"""Write the checkpoints of a run atomically, and decide whether to resume from them."""

import json
import logging
import re
from itertools import count, dropwhile
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from mlickd.errors import InputError
from mlickd.files import file_digest, remove_unfinished, whole_file, write_whole_file
from mlickd.modeling.checkpoint import check_fits, read_file
from mlickd.runs import STUDENT_CHECKPOINT

logger = logging.getLogger(__name__)

# Detectron2's name of the checkpoint of a finished run, without ".pth".
FINAL = "model_final"
# File that maps the name of each checkpoint to its SHA-256, the oldest first.
DIGESTS = "checkpoints.json"
# Detectron2's file with the name of the last checkpoint.
_LAST = "last_checkpoint"
# This file exists while a new run takes over the folder of an earlier run. If the new run is killed before it removes
# the file, it must not continue from the checkpoints of the earlier run.
_STARTING = "starting"
_PERIODIC = re.compile(r"model_\d{7}\.pth")


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
    """Return the names of a run's checkpoints, newest first; the first file may be missing, any may be damaged."""
    if (folder / _STARTING).exists():
        return []
    tag = folder / _LAST
    last = [Path(tag.read_text(errors="replace").strip()).name] if tag.exists() else []
    # Digests are written before the tag. A run that is killed in between leaves the digest of an untagged checkpoint.
    others = [name for name in reversed(_read_digests(folder)) if name not in last and (folder / name).exists()]
    return [*last, *others]


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
        # SHA-256 of each checkpoint of this run by file name, oldest first.
        self._digests: dict[str, str] = {}

    def save(self, name: str, **kwargs: Any) -> None:
        """Write a checkpoint and its digest, then remove the oldest periodic checkpoints beyond ``keep``.

        Raises:
            InputError: the file cannot be written, for example because the disk is full; earlier checkpoints stay.
        """
        if not self.save_to_disk:
            return
        content = {"model": self.model.state_dict()}
        content |= {key: thing.state_dict() for key, thing in self.checkpointables.items()} | kwargs
        file_name = f"{name}.pth"
        logger.info("Saving checkpoint to %s", self.folder / file_name)
        if self._digests.pop(file_name, None):
            # If the run is killed before it writes the new digest, the new file must not look damaged.
            self._write_digests()
        with whole_file(self.folder / file_name, self._remedy()) as file:
            torch.save(content, file)
        self._digests[file_name] = file.sha256
        self._write_digests()
        self.tag_last_checkpoint(file_name)
        periodic = [name for name in self._digests if _PERIODIC.fullmatch(name)]
        for old in periodic[: -self.keep] if self.keep > 0 else []:
            (self.folder / old).unlink(missing_ok=True)
            del self._digests[old]
            self._write_digests()

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of the last checkpoint as Detectron2 does, but never only a part of the file."""
        write_whole_file(self.folder / _LAST, last_filename_basename, self._remedy())

    def forget_earlier_run(self, weights: str = "") -> None:
        """Forget the checkpoints of an earlier run in the same folder; rename its final model and its student.

        ``weights``, the checkpoint that the new run starts from, keeps its name: the same command needs it again if the
        run is killed before its first checkpoint.
        """
        if not comm.is_main_process():
            return
        self._remove_unfinished()
        bookkeeping = [self.folder / name for name in (_LAST, DIGESTS, _STARTING)]
        if any(path.exists() for path in bookkeeping):
            write_whole_file(self.folder / _STARTING, "", "free disk space, then give the same command again")
        for name in (f"{FINAL}.pth", STUDENT_CHECKPOINT):
            path = self.folder / name
            if path.exists() and not (weights and path.resolve() == Path(weights).resolve()):
                new_names = (f"{path.stem}.previous{'' if n == 1 else n}{path.suffix}" for n in count(1))
                new_path = next(free for name in new_names if not (free := path.with_name(name)).exists())
                path.rename(new_path)
                logger.warning("%s belongs to an earlier run; it is renamed to %s", path, new_path.name)
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
            found = self._find_undamaged()
        name, damage = comm.all_gather(found)[0]
        if not name:
            raise InputError(
                f"--resume: all checkpoints in {self.folder} are damaged: {damage}; restore one from a copy, or start "
                "a new run without --resume"
            )
        self.load(str(self.folder / name))
        if comm.is_main_process() and self._digests:
            # Write the tag first. If the run is killed before it removes the digest of a damaged checkpoint, the tag
            # keeps it from continuing from that checkpoint.
            self.tag_last_checkpoint(name)
            self._write_digests()
        return name

    def _find_undamaged(self) -> tuple[str, str]:
        """Return the newest undamaged file and an empty text, or an empty text and a description of the damage."""
        self._digests = _read_digests(self.folder)
        damage: list[str] = []
        for name in saved_checkpoints(self.folder):
            path = self.folder / name
            if not path.is_file():
                damage.append(f"{name} is missing")
            elif not self._is_undamaged(path):
                damage.append(f"{name} is damaged")
            else:
                if damage:
                    logger.warning("--resume: %s; continuing from the earlier %s", "; ".join(damage), name)
                for later in list(dropwhile(name.__ne__, self._digests))[1:]:
                    del self._digests[later]  # the run writes these checkpoints again
                return name, ""
        return "", "; ".join(damage)

    def _is_undamaged(self, path: Path) -> bool:
        if path.name in self._digests:
            return file_digest(path) == self._digests[path.name]
        try:
            read_file(str(path), "--resume", mapped=True)  # a checkpoint of Detectron2 has no digest
        except InputError:
            return False
        return True

    def _write_digests(self) -> None:
        write_whole_file(self.folder / DIGESTS, json.dumps(self._digests, indent=1), self._remedy())

    def _remove_unfinished(self) -> None:
        # Other subfolders may belong to other runs, which may be writing into them.
        for folder in (self.folder, *self.folder.glob("inference/*/")):
            for name in remove_unfinished(folder):
                logger.info("Removed %s, an unfinished file of a killed run", folder / name)

    def _remedy(self) -> str:
        complete = [name for name in self._digests if (self.folder / name).exists()]
        state = f"{complete[-1]} is complete" if complete else "the run has no earlier checkpoint"
        return f"{state}; free disk space, then give the same command with --resume"

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Read a checkpoint without unpickling objects, and check that it belongs to a run of this model."""
        content = read_file(filename, "--resume")
        if not isinstance(content, dict) or not {"model", "trainer"} <= content.keys():
            raise InputError(f"--resume {filename}: is not a checkpoint of a run; start a new run without --resume")
        check_fits(self.model, content["model"], "--resume", filename)
        return content


def _read_digests(folder: Path) -> dict[str, str]:
    path = folder / DIGESTS
    try:
        # Skip names that are paths, because they could lead out of the folder.
        return {name: value for name, value in json.loads(path.read_text()).items() if Path(name).name == name}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError):
        logger.warning("%s is damaged; checkpoints are checked without their digests", path)
        return {}
