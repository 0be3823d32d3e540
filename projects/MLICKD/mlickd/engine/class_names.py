"""The class names of a run, kept with it so that it can be used where its dataset is not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from detectron2.config import CfgNode

from mlickd.data import scenes
from mlickd.data.catalog import UnknownDatasetError, class_names
from mlickd.data.parts import whole_name
from mlickd.data.text_files import read_lines
from mlickd.errors import InputError
from mlickd.evaluation.score_files import SCORES_FILE, read_scores
from mlickd.evaluation.thresholds import THRESHOLDS_FILE, read_thresholds
from mlickd.whole_files import write_whole_file

__all__ = ["CLASSES_FILE", "run_class_names", "write_class_names"]

# As in a folder dataset.
CLASSES_FILE = "classes.txt"


def write_class_names(folder: str, names: Sequence[str]) -> None:
    """Write ``classes.txt``, a name a line, into the folder of a run."""
    text = "".join(f"{name}\n" for name in names)
    write_whole_file(os.path.join(folder, CLASSES_FILE), text, "make room, or choose another OUTPUT_DIR")


def run_class_names(cfg: CfgNode, folder: str | os.PathLike[str]) -> list[str]:
    """The names of the classes of a finished run, in the order of its scores.

    They are those of ``classes.txt`` in its folder; of a run that has none, those in its thresholds or in the scores of
    its evaluation; and else those of its datasets.

    Args:
        cfg: of the run.
        folder: its ``OUTPUT_DIR``.

    Raises:
        InputError: they are nowhere, or are not as many as the model has classes.
    """
    for source, names in _candidates(cfg, Path(folder)):
        if len(names) != cfg.MODEL.NUM_CLASSES:
            raise InputError(
                f"{source}: has {len(names)} class names, the model has {cfg.MODEL.NUM_CLASSES} classes; correct "
                f"{Path(folder) / CLASSES_FILE}, one name a line in the order of the scores"
            )
        return names
    data = ", ".join(dict.fromkeys([*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN]))
    raise InputError(
        f"{Path(folder) / CLASSES_FILE}: no such file, and its datasets ({data}) are not here; write the names of the "
        "classes into it, one a line in the order of the dataset, or set DETECTRON2_DATASETS"
    )


def _candidates(cfg: CfgNode, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Names, and where they are from, the best source first."""
    if (path := folder / CLASSES_FILE).is_file():
        yield str(path), [name for _, name in read_lines(path, "write one name a line")]
    if (path := folder / THRESHOLDS_FILE).is_file():
        yield str(path), read_thresholds(str(path)).class_names
    for path in sorted(folder.glob(f"inference/*/{SCORES_FILE}")):
        if (names := read_scores(str(path)).class_names) is not None:
            yield str(path), names
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        if whole_name(name) in {f"{scenes.DIRECTORY}_{split}" for split in scenes.COUNTS}:
            # Asked for its names, the dataset would be drawn.
            yield name, list(scenes.CATEGORY_NAMES)
        try:
            yield name, class_names(name)
        except UnknownDatasetError:
            continue
