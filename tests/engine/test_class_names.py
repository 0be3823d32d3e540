from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detectron2.config import CfgNode

from mlickd.config import default_config
from mlickd.errors import InputError
from mlickd.evaluation.score_files import write_scores
from mlickd.evaluation.thresholds import ClassThresholds, write_thresholds
from mlickd.runs import run_class_names, write_class_names


def config(classes: int, *datasets: str) -> CfgNode:
    cfg = default_config()
    cfg.MODEL.NUM_CLASSES = classes
    cfg.DATASETS.TEST = datasets
    return cfg


def names_of(word: str) -> list[str]:
    return [f"{word} {number}" for number in range(20)]


def test_the_nearest_source_is_taken(tiny_scenes: Path, tmp_path: Path) -> None:
    cfg = config(20, "gone_test", "tiny_test")
    of_data = run_class_names(cfg, tmp_path)
    assert of_data == (tiny_scenes / "tiny/classes.txt").read_text().splitlines()
    scores = tmp_path / "inference/gone_test/image_scores.npz"
    scores.parent.mkdir(parents=True)
    write_scores(str(scores), ["a"], np.zeros((1, 20), np.float32), np.zeros((1, 20), np.int8), names_of("scored"))
    assert run_class_names(cfg, tmp_path) == names_of("scored")
    tuned = ClassThresholds(names_of("tuned"), [0.5] * 20, [None] * 20, [1] * 20, 0.5, "gone_val", 9, "", "m.pth", "")
    write_thresholds(tuned, str(tmp_path / "thresholds.json"))
    assert run_class_names(cfg, tmp_path) == names_of("tuned")
    write_class_names(str(tmp_path), names_of("Größe, wie sie ist"))
    assert run_class_names(cfg, tmp_path) == names_of("Größe, wie sie ist")


def test_names_that_do_not_fit_or_are_nowhere_are_one_line(tiny_scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"classes.txt: no such file, and its datasets \(gone_test\) are not here"):
        run_class_names(config(3, "gone_test"), tmp_path)
    write_class_names(str(tmp_path), ["cat", "dog"])
    with pytest.raises(InputError, match="classes.txt: has 2 class names, the model has 3 classes; correct"):
        run_class_names(config(3, "gone_test"), tmp_path)
