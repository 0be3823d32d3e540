"""Loading a model for use, whatever form it has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from mlickd.errors import InputError
from mlickd.evaluation.thresholds import THRESHOLDS_FILE, load_thresholds, read_thresholds
from mlickd.files import file_digest
from mlickd.modeling.checkpoint import check_fits, read_checkpoint
from mlickd.runs import check_has_learned, load_run, model_config, run_class_names

from .models import ExportedModel, RunModel
from .predictor import Predictor

__all__ = ["load_model"]

EXPORTED = (".onnx", ".pt2")


def load_model(
    source: str | os.PathLike[str],
    config: str | os.PathLike[str] | None = None,
    thresholds: float | Sequence[float] | str | os.PathLike[str] | None = None,
) -> Predictor:
    """A trained model, ready to predict.

    Photos are read and resized as the evaluation does it. A teacher makes its own proposals and gives ``regions``, too.

    Examples:
        >>> from mlickd import load_model
        >>> model = load_model("output/quickstart/seed1/distilled/prediction")
        >>> prediction = model.predict("photo.jpg")
        >>> prediction.labels                          # what reaches its threshold, best first
        ['cup', 'ball']
        >>> prediction.top(3)                          # the best three, whatever their thresholds
        [('cup', 0.91), ('ball', 0.66), ('key', 0.31)]
        >>> [found.labels for found in model.predict(["photo.jpg", "another.jpg"])]
        [['cup', 'ball'], []]

    Args:
        source: the folder of a finished run (its ``OUTPUT_DIR``); a checkpoint (``.pth``); or a student that was
            exported (``.onnx``, ``.pt2``).
        config: of a checkpoint, the ``config.yaml`` of its run, where that is not beside it.
        thresholds: one for all classes, one for each, or a ``thresholds.json``. By default those that
            ``tools/tune_thresholds.py`` has left with the run, or else its ``TEST.THRESHOLD``; of an exported student
            those in its file.

    Raises:
        InputError: there is no model, something of it does not fit, or nobody knows the names of its classes.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() in EXPORTED:
        if config is not None:
            raise InputError(f"config {config}: an exported student has none; leave it out, or name a checkpoint")
        return _exported(path, thresholds)
    if path.is_dir():
        if config is not None:
            raise InputError(f"config {config}: the run {path} has its own; leave it out, or name a checkpoint")
        cfg, model = load_run(str(path))
        folder = path
    elif path.is_file():
        config_file = path.parent / "config.yaml" if config is None else Path(config).expanduser()
        cfg, model = _checkpoint(path, config_file)
        folder = config_file.parent
    else:
        raise InputError(f"{path}: no such file or folder; name a run's folder, a checkpoint or an exported student")
    check_has_learned(cfg, path)
    names = run_class_names(cfg, folder)
    chosen, where = _choose_thresholds(thresholds, names, cfg, folder, path)
    return Predictor(RunModel(cfg, model), names, chosen, where)


def _exported(path: Path, thresholds) -> Predictor:
    from mlickd.export import load_exported

    exported = load_exported(path)
    names = exported.class_names
    if thresholds is None:
        return Predictor(ExportedModel(exported), names, exported.thresholds, f"those in {path}")
    return Predictor(ExportedModel(exported), names, *_given_thresholds(thresholds, names))


def _checkpoint(path: Path, config_file: Path):
    content = read_checkpoint(str(path), "checkpoint")
    cfg = model_config(str(config_file), str(path))
    # Of a stage of distillation it holds what the student learned with, too.
    student = {key[8:]: value for key, value in content.items() if key.startswith("student.")}
    model = build_model(cfg)
    check_fits(model, student or content, "checkpoint", str(path))
    model.load_state_dict(student or content)
    return cfg, model.eval()


def _choose_thresholds(
    thresholds, names: Sequence[str], cfg: CfgNode, folder: Path, source: Path
) -> tuple[np.ndarray, str]:
    if thresholds is not None:
        return _given_thresholds(thresholds, names)
    default, path = f"{cfg.TEST.THRESHOLD:g} for all classes", folder / THRESHOLDS_FILE
    if path.is_file():
        if source == folder or file_digest(source) == read_thresholds(str(path)).checkpoint_sha256:
            return load_thresholds(str(folder), names), f"of each class, from {path}"
        default += f" ({path} is of another checkpoint)"
    return np.full(len(names), cfg.TEST.THRESHOLD), default


def _given_thresholds(thresholds, names: Sequence[str]) -> tuple[np.ndarray, str]:
    """Thresholds of each class, and where they come from."""
    if isinstance(thresholds, (str, os.PathLike)):
        stored = read_thresholds(os.fspath(thresholds))
        stored.check(os.fspath(thresholds), names)
        return np.array(stored.thresholds), f"of each class, from {os.fspath(thresholds)}"
    values = np.asarray(thresholds, dtype=np.float64)
    if values.shape not in ((), (len(names),)) or not ((values >= 0) & (values <= 1)).all():
        raise InputError(
            f"thresholds {thresholds}: give a number from 0 to 1, or one for each of the {len(names)} classes"
        )
    where = f"{float(values):g} for all classes" if values.ndim == 0 else "given for each class"
    return np.broadcast_to(values, (len(names),)), where
