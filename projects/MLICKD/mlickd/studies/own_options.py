"""Configuration keys that a row of commands sets itself, and that a user may therefore not give to all of them."""

from __future__ import annotations

from collections.abc import Sequence

from mlickd.errors import InputError

__all__ = ["check_own_options"]

# By key, the option of the tools that says the same.
_OPTIONS = {
    "SEED": "--seeds",
    "OUTPUT_DIR": "--output",
    "KD.TEACHER.WEIGHTS": "--teacher",
    "KD.CACHE": "--output",
    "DATASETS.TRAIN": "--train",
    "DATASETS.TEST": "--test",
    "DATASETS.PROPOSALS.METHOD": "--proposals",
}


def check_own_options(options: Sequence[str]) -> None:
    """See that ``KEY VALUE`` pairs for all commands leave alone what makes the commands different.

    Raises:
        InputError: they have a seed, a folder, a teacher, datasets or a method of proposals.
    """
    for key in options[::2]:
        if key in _OPTIONS:
            raise InputError(f"options: {key} is set for each run; leave it out, and give {_OPTIONS[key]}")
