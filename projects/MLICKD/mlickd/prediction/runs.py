"""Which run a user means who names a folder."""

from __future__ import annotations

import os
from pathlib import Path

from mlickd.data.build import model_class
from mlickd.distillation.teacher_files import DATASET
from mlickd.errors import InputError
from mlickd.runs import run_config

__all__ = ["find_student", "find_teacher"]

_CONFIG = "config.yaml"
# In the folder of one seed of tools/quickstart.py or tools/compare.py, or of both stages of a distillation.
_STUDENTS = ("distilled/prediction", "prediction")


def find_student(path: str | os.PathLike[str]) -> Path:
    """What :func:`mlickd.load_model` takes: the path itself, or the distilled student that is below it.

    Raises:
        InputError: there is no run; the message names those that are further below.
    """
    path = Path(path).expanduser()
    if not path.is_dir() or (path / _CONFIG).is_file():
        return path
    for below in _STUDENTS:
        if (path / below / _CONFIG).is_file():
            return path / below
    raise _no_run(path)


def find_teacher(path: str | os.PathLike[str]) -> tuple[Path, Path | None]:
    """The teacher of a path: the run itself where it is one, that beside a student, or that which a student had.

    Returns:
        Run folder or checkpoint, and the configuration of a checkpoint, as :func:`mlickd.load_model` takes them.

    Raises:
        InputError: there is none, or it is not where the student had it.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        raise InputError(f"--teacher: {path} is no folder; name that of a teacher's run, or of its student's")
    for folder in (path, path / "teacher"):
        if (folder / _CONFIG).is_file():
            return _teacher_of(folder)
    # Teachers that several seeds share lie elsewhere; their students know where.
    return _teacher_of(find_student(path))


def _teacher_of(run: Path) -> tuple[Path, Path | None]:
    cfg = run_config(str(run))
    if model_class(cfg).is_detector:
        return run, None
    weights = cfg.KD.TEACHER.WEIGHTS
    if not weights:
        raise InputError(f"--teacher: {run} is of a student that had no teacher; name the folder of the teacher")
    if DATASET in weights:
        raise InputError(f"--teacher: {run} has learned from several teachers, {weights}; name the folder of one")
    config = Path(cfg.KD.TEACHER.CONFIG_FILE or Path(weights).parent / _CONFIG)
    for file in (Path(weights), config):
        if not file.is_file():
            raise InputError(
                f"--teacher: {run} has learned from {weights}, and {file} is not there; name the folder of the teacher"
            )
    return Path(weights), config


def _no_run(path: Path) -> InputError:
    runs = (config.parent for depth in range(1, 4) for config in path.glob("*/" * depth + _CONFIG))
    below = sorted(run for run in runs if run.name != "feature")  # stage 1 leaves nothing to use
    if not below:
        return InputError(f"{path / _CONFIG}: no such file; name the OUTPUT_DIR of a finished run")
    named = ", ".join(map(str, below[:3]))
    return InputError(f"{path / _CONFIG}: no such file; name one of the {len(below)} runs below it, such as {named}")
