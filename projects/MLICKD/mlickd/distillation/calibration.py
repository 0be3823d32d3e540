"""Calibration of a teacher's image scores for each class.

The scores of WSDDN are sums of products of softmaxes. They rank images well, but a score of 0.3 is not a probability of
30 %. Calibration fits slope and intercept of ``sigmoid(slope * logit(p) + intercept)`` for each class, on images that
the teacher was not trained on (Platt 1999).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from detectron2.config import CfgNode
from scipy.special import expit, logit

from mlickd.data.catalog import class_names
from mlickd.errors import InputError
from mlickd.files import file_digest, write_json
from mlickd.modeling.losses import EPSILON

from .knowledge import TeacherKnowledge

logger = logging.getLogger(__name__)

_KEY = "KD.PREDICTION.CALIBRATION"
_REMEDY = "make it with `mlickd calibrate-teacher`"
# Weight of the squared distance from slope 1 and intercept 0; negligible if the images determine the line.
_RIDGE = 1e-3


@dataclass(frozen=True)
class Calibration:
    """Slope and intercept for each of C classes.

    Attributes:
        classes: names of the classes, in the order of the teacher's outputs.
        slopes: slope of each class.
        intercepts: intercept of each class.
        temperature: ``KD.PREDICTION.TEACHER_TEMPERATURE`` of the scores, which is applied before the calibration.
        held_out: for each dataset that the calibration was fitted on, its name ``dataset``, the digest ``images`` of
            its list of images, and the digest ``teacher`` of the checkpoint that scored them.
        flip: ``KD.TEACHER.FLIP`` of the scores.
    """

    classes: tuple[str, ...]
    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    temperature: float
    held_out: tuple[dict[str, str], ...]
    flip: bool = False

    def apply(self, image_scores: torch.Tensor) -> torch.Tensor:
        """Return calibrated probabilities for image scores (..., C), in the same shape and dtype."""
        slopes, intercepts = image_scores.new_tensor([self.slopes, self.intercepts])
        return torch.sigmoid(slopes * torch.logit(image_scores, eps=EPSILON) + intercepts)

    def calibrate(self, knowledge: TeacherKnowledge) -> TeacherKnowledge:
        """Return knowledge with calibrated image scores, if it has image scores."""
        scores = knowledge.image_scores
        return knowledge if scores is None else replace(knowledge, image_scores=self.apply(scores))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the calibration as JSON; raise InputError if the file cannot be written."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: str) -> Calibration:
        """Read a file that :meth:`save` wrote; raise InputError if it is missing or corrupt."""
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            content |= {name: tuple(content[name]) for name in ("classes", "slopes", "intercepts", "held_out")}
            lines = np.array([content["slopes"], content["intercepts"]], dtype=np.float64)
            named = all(isinstance(part["teacher"], str) for part in content["held_out"])
            if lines.shape != (2, len(content["classes"])) or not np.isfinite(lines).all() or not named:
                raise ValueError("each class needs a finite slope and intercept, each dataset a teacher")
            return cls(**content)
        except FileNotFoundError:
            raise InputError(f"{_KEY} {path}: no such file; {_REMEDY}") from None
        except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise InputError(f"{_KEY} {path}: is not a calibration; {_REMEDY}") from error


def fit_platt_scaling(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit slope and intercept of each class by maximum likelihood, with Platt's targets and a small ridge penalty.

    For a class with N+ positives and N- negatives the targets t are (N+ + 1) / (N+ + 2) and 1 / (N- + 2) instead of 1
    and 0 (Platt 1999, section 2.2). The line is then also finite for classes without positives and for separable ones.
    With q = sigmoid(a logit(p) + b),

        -sum_n [ t log q + (1 - t) log(1 - q) ] + ridge / 2 * [ (a - 1)^2 + b^2 ]

    has one minimum, even if all scores are equal or no target is known.

    Args:
        scores: (N, C) image scores of images that the teacher was not trained on; clamped to
            ``[EPSILON, 1 - EPSILON]``, as in the teacher's loss.
        targets: (N, C), 1, 0, or -1 (ignored).

    Returns:
        Slopes (C,) and intercepts (C,), float64.
    """
    lines = [_fit_class(*columns) for columns in zip(scores.T, targets.T, strict=True)]
    slopes, intercepts = np.array(lines, dtype=np.float64).reshape(-1, 2).T
    return slopes, intercepts


def _fit_class(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize  # here, because the import takes half a second

    known = targets >= 0
    positive = targets[known] == 1
    positives, negatives = positive.sum(), (~positive).sum()
    smoothed = np.where(positive, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    logits = logit(scores[known].astype(np.float64).clip(EPSILON, 1 - EPSILON))
    identity = np.array([1.0, 0.0])

    def objective(line: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the penalized cross-entropy of the line, and its gradient."""
        z, offset = line[0] * logits + line[1], line - identity
        residual = expit(z) - smoothed
        gradient = np.array([residual @ logits, residual.sum()]) + _RIDGE * offset
        return (np.logaddexp(0, z) - smoothed * z).sum() + _RIDGE / 2 * offset @ offset, gradient

    return minimize(objective, identity, jac=True, tol=1e-9).x


def load_calibration(cfg: CfgNode, teachers: Mapping[str, CfgNode]) -> Calibration | None:
    """Load ``KD.PREDICTION.CALIBRATION`` of a distillation, and check that it fits; None if the key is empty.

    Args:
        cfg: configuration of the distillation.
        teachers: configuration of the teacher for each dataset.

    Raises:
        InputError: the file cannot be read, or its classes, teachers or settings differ from the run.
    """
    path = cfg.KD.PREDICTION.CALIBRATION
    if not path:
        return None
    calibration = Calibration.load(path)
    digests = {file_digest(teacher.MODEL.WEIGHTS) for teacher in teachers.values()}
    for name, found, expected in (
        ("classes", list(calibration.classes), class_names(cfg.DATASETS.TRAIN[0])),
        ("KD.PREDICTION.TEACHER_TEMPERATURE", calibration.temperature, cfg.KD.PREDICTION.TEACHER_TEMPERATURE),
        ("KD.TEACHER.FLIP", calibration.flip, cfg.KD.TEACHER.FLIP),
        ("KD.TEACHER.WEIGHTS", {part["teacher"] for part in calibration.held_out} & digests, digests),
    ):
        if found != expected:
            raise InputError(f"{_KEY} {path}: does not match the run in {name}; {_REMEDY} again")
    logger.info("The teacher's image scores are calibrated by %s", path)
    return calibration
