"""What is shown of an image: its labels, the best predictions of the students, and the teacher's regions."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from detectron2.structures import Instances

__all__ = [
    "ImageResult",
    "Prediction",
    "format_score",
    "image_result",
    "one_line",
    "ranked_right",
    "top_predictions",
]

# The students of the result figure, in its order: attribute of ImageResult, title.
STUDENTS = {"without": "Without distillation", "distilled": "With distillation"}


@dataclass(frozen=True)
class Prediction:
    """One class that a student finds in an image.

    Attributes:
        class_name: of the class.
        score: its probability.
        correct: whether the image has that label; None where the class does not count for this image.
    """

    class_name: str
    score: float
    correct: bool | None


@dataclass(frozen=True)
class ImageResult:
    """All that figure and gallery show of one image. What is None was not predicted and is left out.

    Attributes:
        image_id: of the record, as text.
        file_name: path of the image.
        labels: names of its true classes; None where nobody knows them.
        without, distilled: best predictions of the student without and with distillation, best first.
        regions: the teacher's detections, with ``pred_boxes`` in original pixels, ``scores`` and ``pred_classes``.
    """

    image_id: str
    file_name: str
    labels: tuple[str, ...] | None
    without: tuple[Prediction, ...] | None = None
    distilled: tuple[Prediction, ...] | None = None
    regions: Instances | None = None

    @property
    def students(self) -> dict[str, tuple[Prediction, ...]]:
        """Predictions by title, of the students that there are."""
        predictions = {title: getattr(self, name) for name, title in STUDENTS.items()}
        return {title: found for title, found in predictions.items() if found is not None}

    @property
    def outcome(self) -> str | None:
        """``fixed`` or ``broken`` (by distillation), ``both-right`` or ``both-wrong``; with one student ``right`` or
        ``wrong``; None where that cannot be said. See :func:`ranked_right`."""
        verdicts = [ranked_right(found, len(self.labels or ())) for found in self.students.values()]
        if not verdicts or None in verdicts:
            return None
        if len(verdicts) == 1:
            return "right" if verdicts[0] else "wrong"
        without, distilled = verdicts
        if without == distilled:
            return "both-right" if without else "both-wrong"
        return "fixed" if distilled else "broken"


def ranked_right(predictions: Sequence[Prediction], num_labels: int) -> bool | None:
    """Whether the best predictions, as many as the image has labels, are all right.

    This takes no threshold, and an image with one label can be right although three classes are shown. Where the
    image has more labels than predictions are given, those given have to be right.

    Args:
        predictions: best first.
        num_labels: of the image.

    Returns:
        None where there is nothing to judge: no label, or no prediction that counts.
    """
    judged = [prediction.correct for prediction in predictions if prediction.correct is not None][:num_labels]
    return all(judged) if judged else None


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
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != (len(class_names),):
        raise ValueError(f"scores of shape {scores.shape} for {len(class_names)} classes")
    best = np.argsort(-scores, kind="stable")[:top_k].tolist()
    return tuple(
        Prediction(
            class_names[index],
            float(scores[index]),
            True if index in labels else None if index in ignored else False,
        )
        for index in best
    )


def image_result(
    record: dict,
    class_names: Sequence[str],
    *,
    without: dict | None = None,
    distilled: dict | None = None,
    teacher: dict | None = None,
    top_k: int = 3,
) -> ImageResult:
    """Bring together a record and what the models gave for its image.

    Args:
        record: Detectron2 data set dict with ``image_id``, ``file_name`` and optionally ``labels`` and
            ``ignored_labels``. Without labels no prediction counts as right or wrong.
        class_names: C names.
        without, distilled: outputs of the students, with ``image_scores``, a (C,) tensor.
        teacher: output of the teacher, with ``instances`` in original pixels.
        top_k: predictions shown of each student.
    """
    labels = record.get("labels")
    ignored = range(len(class_names)) if labels is None else record.get("ignored_labels", ())

    def best(output: dict | None) -> tuple[Prediction, ...] | None:
        if output is None:
            return None
        scores = output["image_scores"].detach().cpu().numpy()
        return top_predictions(scores, class_names, labels or (), ignored=ignored, top_k=top_k)

    return ImageResult(
        image_id=str(record["image_id"]),
        file_name=str(record["file_name"]),
        labels=None if labels is None else tuple(class_names[label] for label in labels),
        without=best(without),
        distilled=best(distilled),
        regions=None if teacher is None else teacher["instances"].to("cpu"),
    )


def format_score(score: float) -> str:
    """Two digits; a score that would round to 0 is no 0."""
    if math.isfinite(score) and 0 < score < 0.005:
        return "<0.01"
    return f"{score:.2f}"


def one_line(text: str) -> str:
    """Text that fits on one line: without line breaks and characters that do not print."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))
