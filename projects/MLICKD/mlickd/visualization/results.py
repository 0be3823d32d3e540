"""What is shown of an image: its labels, the best predictions of the students, and the teacher's regions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from detectron2.structures import Instances

__all__ = [
    "ImageResult",
    "Prediction",
    "format_score",
    "image_result",
    "one_line",
    "shown_predictions",
    "top_predictions",
]

# The students of the result figure, in its order: attribute of ImageResult, title.
STUDENTS = {"baseline": "Baseline", "distilled": "Distilled"}


@dataclass(frozen=True)
class Prediction:
    """What a student says of one class of an image.

    Attributes:
        class_name: of the class.
        score: its probability.
        correct: whether the image has that label; None where the class does not count for this image.
        predicted: whether the score reaches the threshold.
    """

    class_name: str
    score: float
    correct: bool | None
    predicted: bool = True

    @property
    def verdict(self) -> str:
        """``right`` or ``wrong``, or ``uncounted`` where the class does not count, of what is predicted; ``missed`` of
        a label that is not; ``below`` (the threshold) of any other class."""
        if self.predicted:
            return {True: "right", False: "wrong", None: "uncounted"}[self.correct]
        return "missed" if self.correct else "below"


@dataclass(frozen=True)
class ImageResult:
    """All that figure and gallery show of one image. What is None was not predicted and is left out.

    Attributes:
        image_id: of the record, as text.
        file_name: path of the image.
        labels: names of its true classes; None where nobody knows them.
        baseline, distilled: what the baseline and the distilled student say, best first; see
            :func:`shown_predictions`.
        regions: the teacher's detections, with ``pred_boxes`` in original pixels, ``scores`` and ``pred_classes``.
        activations: by the title of a student and the name of a class, its (H, W) class activation map.
    """

    image_id: str
    file_name: str
    labels: tuple[str, ...] | None
    baseline: tuple[Prediction, ...] | None = None
    distilled: tuple[Prediction, ...] | None = None
    regions: Instances | None = None
    activations: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    @property
    def students(self) -> dict[str, tuple[Prediction, ...]]:
        """Predictions by title, of the students that there are."""
        predictions = {title: getattr(self, name) for name, title in STUDENTS.items()}
        return {title: found for title, found in predictions.items() if found is not None}


def top_predictions(
    scores: np.ndarray,
    class_names: Sequence[str],
    labels: Collection[int],
    *,
    ignored: Collection[int] = (),
    top_k: int = 3,
) -> tuple[Prediction, ...]:
    """The best predictions of an image; equal scores in the order of the classes.

    Args:
        scores: (C,) probabilities.
        class_names: C names.
        labels: indices of the true classes.
        ignored: indices of classes that count neither way; a class in both is a true one.
        top_k: how many.

    Raises:
        ValueError: the number of scores is not C.
    """
    everything = shown_predictions(scores, class_names, labels, ignored=ignored, thresholds=-math.inf)
    return everything[:top_k]


def shown_predictions(
    scores: np.ndarray,
    class_names: Sequence[str],
    labels: Collection[int],
    *,
    ignored: Collection[int] = (),
    thresholds: np.ndarray | float = 0.0,
    top_k: int = 3,
) -> tuple[Prediction, ...]:
    """What is worth showing of an image: the best classes, all that are predicted, and the labels that are missed.

    Args:
        scores, class_names, labels, ignored: see :func:`top_predictions`.
        thresholds: (C,), or one for all; a class is predicted where its score is at least its threshold.
        top_k: classes that are shown whether or not they are predicted.

    Returns:
        Best first; equal scores in the order of the classes.

    Raises:
        ValueError: the number of scores is not C.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != (len(class_names),):
        raise ValueError(f"scores of shape {scores.shape} for {len(class_names)} classes")
    predicted = scores >= np.asarray(thresholds, dtype=np.float64)
    return tuple(
        Prediction(
            class_names[index],
            float(scores[index]),
            True if index in labels else None if index in ignored else False,
            bool(predicted[index]),
        )
        for rank, index in enumerate(np.argsort(-scores, kind="stable").tolist())
        if rank < top_k or predicted[index] or index in labels
    )


def image_result(
    record: dict,
    class_names: Sequence[str],
    *,
    baseline: dict | None = None,
    distilled: dict | None = None,
    teacher: dict | None = None,
    thresholds: Mapping[str, np.ndarray | float] | None = None,
    top_k: int = 3,
) -> ImageResult:
    """Bring together a record and what the models gave for its image.

    Args:
        record: Detectron2 dataset dict with ``image_id``, ``file_name`` and optionally ``labels`` and
            ``ignored_labels``. Without labels no prediction counts as right or wrong.
        class_names: C names.
        baseline, distilled: outputs of the students, with ``image_scores``, a (C,) tensor, and optionally
            ``activation_maps`` (C, H, W).
        teacher: output of the teacher, with ``instances`` in original pixels.
        thresholds: of ``baseline`` and ``distilled``, see :func:`shown_predictions`. None: the best ``top_k`` are
            predicted, whatever their scores.
        top_k: see :func:`shown_predictions`.
    """
    labels = record.get("labels")
    ignored = range(len(class_names)) if labels is None else record.get("ignored_labels", ())

    found, activations = {}, {}
    for role, output in {"baseline": baseline, "distilled": distilled}.items():
        if output is None:
            continue
        scores = output["image_scores"].detach().cpu().numpy()
        show = top_predictions if thresholds is None else partial(shown_predictions, thresholds=thresholds[role])
        found[role] = show(scores, class_names, labels or (), ignored=ignored, top_k=top_k)
        if "activation_maps" in output:
            maps = dict(zip(class_names, output["activation_maps"].detach().cpu().numpy(), strict=True))
            activations[STUDENTS[role]] = {said.class_name: maps[said.class_name] for said in found[role]}
    return ImageResult(
        image_id=str(record["image_id"]),
        file_name=str(record["file_name"]),
        labels=None if labels is None else tuple(class_names[label] for label in labels),
        **found,
        regions=None if teacher is None else teacher["instances"].to("cpu"),
        activations=activations,
    )


def format_score(score: float) -> str:
    """Two digits; a score that would round to 0 is no 0."""
    if math.isfinite(score) and 0 < score < 0.005:
        return "<0.01"
    return f"{score:.2f}"


def one_line(text: str) -> str:
    """Text that fits on one line: without line breaks and characters that do not print."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))
