"""Calibration of a teacher's image scores, class by class, on photos that it was not trained on (Platt 1999).

The scores of WSDDN are sums of products of softmaxes: they rank well, but a score of 0.3 is no chance of three in ten.
Of each class a line through the logits of the scores is fitted, ``sigmoid(slope * logit(p) + intercept)``.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from torch.nn import functional as F

from mlickd.data.build import training_datasets
from mlickd.data.catalog import class_names
from mlickd.errors import InputError
from mlickd.files import file_digest, write_whole_file

from .hook import KnowledgeSource
from .knowledge import TeacherKnowledge
from .teacher_files import with_teacher_of

__all__ = ["CalibratedKnowledge", "Calibration", "HeldOut", "fit_platt_scaling", "load_calibration", "score_logits"]

logger = logging.getLogger(__name__)

_FORMAT = 1
_REMEDY = "make it with tools/calibrate_teacher.py"
# The clamp of the teacher's own loss: what it does to scores beyond, the teacher has not learned.
_EPSILON = 1e-4
# Of the distance from slope 1 and intercept 0: next to nothing, where the photos say anything.
_RIDGE = 1e-3


@dataclass(frozen=True)
class HeldOut:
    """Photos that a calibration was fitted on, and the teacher that scored them.

    Attributes:
        dataset: its name.
        images: digest of the list of its images.
        teacher: digest of the teacher's checkpoint.
    """

    dataset: str
    images: str
    teacher: str


@dataclass(frozen=True)
class Calibration:
    """A line for each of C classes.

    Attributes:
        classes: their names, in the order of the teacher's outputs.
        slopes, intercepts: of each.
        temperature: ``KD.PREDICTION.TEACHER_TEMPERATURE`` of the scores that it is for; it is applied before.
        held_out: what it was fitted on.
        flip: ``KD.TEACHER.FLIP`` of these scores.
    """

    classes: tuple[str, ...]
    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    temperature: float
    held_out: tuple[HeldOut, ...]
    flip: bool = False

    def apply(self, image_scores: torch.Tensor) -> torch.Tensor:
        """Image scores (..., C) to probabilities (..., C) of the same type."""
        slopes, intercepts = image_scores.new_tensor([self.slopes, self.intercepts])
        return torch.sigmoid(slopes * score_logits(image_scores) + intercepts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON.

        Raises:
            InputError: it cannot be written.
        """
        lines = {
            name: {"slope": slope, "intercept": intercept}
            for name, slope, intercept in zip(self.classes, self.slopes, self.intercepts, strict=True)
        }
        content = {"format": _FORMAT, "temperature": self.temperature, "flip": self.flip, "classes": lines}
        content["held_out"] = [vars(part) for part in self.held_out]
        text = json.dumps(content, indent=1, ensure_ascii=False)
        write_whole_file(path, f"{text}\n", "give another path", parents=True)

    @classmethod
    def load(cls, path: str) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: the file is missing, damaged or of another format.
        """
        try:
            with PathManager.open(path) as file:
                content = json.load(file)
        except FileNotFoundError:
            raise InputError(f"KD.PREDICTION.CALIBRATION {path}: no such file; {_REMEDY}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"KD.PREDICTION.CALIBRATION {path}: is no calibration; {_REMEDY}") from error
        if isinstance(content, dict) and content.get("format", _FORMAT) != _FORMAT:
            raise InputError(f"KD.PREDICTION.CALIBRATION {path}: is of format {content['format']}; {_REMEDY}")
        try:
            return cls._of_json(content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"KD.PREDICTION.CALIBRATION {path}: is damaged; {_REMEDY}") from error

    @classmethod
    def _of_json(cls, content: Mapping[str, Any]) -> Calibration:
        lines = content["classes"]
        numbers = np.array([[line["slope"], line["intercept"]] for line in lines.values()], dtype=np.float64)
        if numbers.shape != (len(lines), 2) or not np.isfinite(numbers).all():
            raise ValueError("a slope or an intercept is not finite")
        return cls(
            tuple(lines),
            *(tuple(column) for column in numbers.T.tolist()),
            temperature=float(content["temperature"]),
            held_out=tuple(HeldOut(**part) for part in content["held_out"]),
            flip=bool(content["flip"]),
        )


class CalibratedKnowledge:
    """A source of knowledge, live or cached, with calibrated image scores; everything else is as the source has it."""

    def __init__(self, source: KnowledgeSource, calibration: Calibration):
        self.source = source
        self.calibration = calibration

    def __call__(self, batched_inputs: Sequence[dict]) -> list[TeacherKnowledge]:
        """Knowledge of each sample."""
        return [
            known
            if known.image_scores is None
            else replace(known, image_scores=self.calibration.apply(known.image_scores))
            for known in self.source(batched_inputs)
        ]


def score_logits(scores: torch.Tensor) -> torch.Tensor:
    """Logits of scores that may leave (0, 1) by rounding, clamped to [1e-4, 1 - 1e-4]."""
    return torch.logit(scores, eps=_EPSILON)


def fit_platt_scaling(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept of each class by maximum likelihood, with Platt's targets and a slight ridge.

    Of a class with N+ positives and N- negatives the targets t are (N+ + 1) / (N+ + 2) and 1 / (N- + 2) instead of 1
    and 0 (Platt 1999, section 2.2), which keeps classes finite that have no positive or that the score separates. With
    q = sigmoid(a logit(p) + b),

        -sum_n [ t log q + (1 - t) log(1 - q) ] + ridge / 2 * [ (a - 1)^2 + b^2 ]

    has its minimum at one point, also where all scores are equal or no target is known.

    Args:
        scores: (N, C) image scores of photos that the teacher was not trained on.
        targets: (N, C), 1, 0, or -1 where the label is to be ignored.

    Returns:
        Slopes (C,) and intercepts (C,), float64.
    """
    lines = [_fit_class(*columns) for columns in zip(scores.T, targets.T, strict=True)]
    slopes, intercepts = np.array(lines, dtype=np.float64).reshape(-1, 2).T
    return slopes, intercepts


def _fit_class(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    known = targets >= 0
    positive = targets[known] == 1
    positives, negatives = positive.sum(), (~positive).sum()
    smoothed = np.where(positive, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    smoothed = torch.from_numpy(smoothed)
    logits = score_logits(torch.from_numpy(scores[known].astype(np.float64)))
    identity = torch.tensor([1.0, 0.0], dtype=torch.float64)
    line = identity.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [line], max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        """The penalized cross-entropy of the line, a scalar, with its gradient; LBFGS asks for it often."""
        optimizer.zero_grad()
        fit = F.binary_cross_entropy_with_logits(line[0] * logits + line[1], smoothed, reduction="sum")
        objective = fit + _RIDGE / 2 * (line - identity).pow(2).sum()
        objective.backward()
        return objective

    optimizer.step(closure)
    slope, intercept = line.tolist()
    return slope, intercept


def load_calibration(cfg: CfgNode) -> Calibration | None:
    """``KD.PREDICTION.CALIBRATION`` of a distillation; None where it is empty.

    Raises:
        InputError: it cannot be read, or is of other classes, another teacher or another temperature than the run.
    """
    path = cfg.KD.PREDICTION.CALIBRATION
    if not path:
        return None
    calibration = Calibration.load(path)
    names = class_names(cfg.DATASETS.TRAIN[0])
    if list(calibration.classes) != names:
        raise InputError(
            f"KD.PREDICTION.CALIBRATION {path}: is of {_differing_class(calibration.classes, names)}; {_REMEDY} for "
            "this teacher"
        )
    temperature = cfg.KD.PREDICTION.TEACHER_TEMPERATURE
    if calibration.temperature != temperature:
        raise InputError(
            f"KD.PREDICTION.CALIBRATION {path}: is for KD.PREDICTION.TEACHER_TEMPERATURE {calibration.temperature:g}, "
            f"not {temperature:g}; set that, or {_REMEDY} for this temperature"
        )
    if calibration.flip != cfg.KD.TEACHER.FLIP:
        raise InputError(
            f"KD.PREDICTION.CALIBRATION {path}: is for KD.TEACHER.FLIP {calibration.flip}, not {cfg.KD.TEACHER.FLIP}; "
            f"set that, or {_REMEDY} for this one"
        )
    known = {part.teacher for part in calibration.held_out}
    for dataset in training_datasets(cfg):
        weights = with_teacher_of(cfg, dataset).KD.TEACHER.WEIGHTS
        if file_digest(PathManager.get_local_path(weights)) not in known:
            raise InputError(
                f"KD.PREDICTION.CALIBRATION {path}: is of another teacher than KD.TEACHER.WEIGHTS {weights}; {_REMEDY} "
                "for this one"
            )
    logger.info("The teacher's image scores are calibrated by %s", path)
    return calibration


def _differing_class(found: Sequence[str], expected: Sequence[str]) -> str:
    if len(found) != len(expected):
        return f"{len(found)} classes, and the run has {len(expected)}"
    number = next(i for i, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
    return f"other classes: number {number} is {found[number]!r}, and in the run {expected[number]!r}"
