"""The `config.yaml` that a run has left is enough to evaluate it and to go on with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser

from helpers.small_models import CONFIGS
from mlickd.engine import load_config, prepare
from mlickd.engine.setup import resolve_run_config
from mlickd.errors import InputError
from mlickd.modeling.checkpoint import model_blueprint


def record(folder: Path, *options: object, base: str = "scenes/kd.yaml", files: tuple[str, ...] = ()) -> Path:
    """What training writes down of itself: the stage's folder, and the checkpoint that it started from."""
    folder.mkdir(parents=True)
    data = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)", "MODEL.DEVICE", "cpu"]
    data += ["MODEL.WEIGHTS", str(folder.parent / "start.pth"), "OUTPUT_DIR", str(folder), *map(str, options)]
    path = folder / "config.yaml"
    path.write_text(load_config(str(CONFIGS / base), data).dump())
    for name in files:
        save_student(folder / name)
    return path


def save_student(path: Path) -> None:
    """A checkpoint of the student of all these runs, which has learned nothing."""
    student = model_blueprint(load_config(str(CONFIGS / "scenes/cls.yaml"), ["MODEL.NUM_CLASSES", "20"]))
    torch.save({"model": {key: torch.zeros(value.shape) for key, value in student.state_dict().items()}}, path)


def prepared(path: Path, *options: str, eval_only: bool = True) -> CfgNode:
    words = ["--config-file", str(path), "--eval-only" if eval_only else "--resume", *options]
    arguments = default_argument_parser().parse_args(words)
    arguments.kd_stage = None
    return prepare(arguments)


def test_what_a_run_has_learned_is_evaluated_and_not_what_it_started_from(tiny_scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "distilled" / "prediction"
    options = ["KD.STAGE", "prediction", "DATASETS.UNLABELED", "('tiny_train@not1of4',)"]
    path = record(folder, *options, files=("student.pth", "model_final.pth"))
    save_student(tmp_path / "distilled" / "start.pth")
    cfg = prepared(path)
    assert (cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR) == (str(folder / "student.pth"), str(folder / "evaluation"))
    assert cfg.MODEL.META_ARCHITECTURE == "MultiLabelClassifier"
    moved = folder.rename(tmp_path / "moved")
    assert prepared(moved / "config.yaml").MODEL.WEIGHTS == str(moved / "student.pth")
    given = prepared(moved / "config.yaml", "MODEL.WEIGHTS", str(moved / "model_final.pth"), "OUTPUT_DIR", "elsewhere")
    assert given.MODEL.WEIGHTS == str(moved / "model_final.pth")
    assert given.OUTPUT_DIR == str(Path("elsewhere") / "evaluation")

    plain = record(tmp_path / "plain", base="scenes/cls.yaml", files=("model_final.pth",))
    assert prepared(plain).MODEL.WEIGHTS == str(tmp_path / "plain" / "model_final.pth")


def test_stage_1_has_nothing_to_evaluate(tiny_scenes: Path, tmp_path: Path) -> None:
    path = record(tmp_path / "feature", "KD.STAGE", "feature", files=("student.pth",))
    with pytest.raises(InputError, match="config.yaml: is stage 1"):
        prepared(path)


def test_a_run_goes_on_in_its_folder(tiny_scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "distilled" / "prediction"
    path = record(folder, "KD.STAGE", "prediction", files=("last_checkpoint",))
    cfg = load_config(str(path), [])
    resolve_run_config(cfg, str(path), given=[], eval_only=False)
    assert cfg.OUTPUT_DIR == str(tmp_path / "distilled"), "the stage is appended to it"
    assert cfg.MODEL.WEIGHTS == str(tmp_path / "distilled" / "start.pth")


def test_a_configuration_of_no_run_is_as_it_says(tiny_scenes: Path, tmp_path: Path) -> None:
    path = record(tmp_path / "config", base="scenes/cls.yaml")
    save_student(tmp_path / "start.pth")
    assert prepared(path).MODEL.WEIGHTS == str(tmp_path / "start.pth")
