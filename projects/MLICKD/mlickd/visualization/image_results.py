"""The results of one image: its labels, the scores of the students, and the teacher's regions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from detectron2.structures import Instances

BLUE, RED, INK = "#1a4fd0", "#c8201e", "#16181d"

# Roles of the students, in the order of figures and gallery.
STUDENTS = ("baseline", "distilled")


@dataclass(frozen=True)
class ClassResult:
    """The score of a student for one class of an image.

    Attributes:
        class_name: name of the class.
        score: probability of the class.
        is_label: whether the image has the label; None if the class is ignored for this image.
        predicted: whether the score reaches the threshold.
    """

    class_name: str
    score: float
    is_label: bool | None
    predicted: bool = True

    @property
    def verdict(self) -> str:
        """``right``, ``wrong`` or ``ignored`` for a predicted class; ``missed`` or ``below`` if not."""
        if self.predicted:
            return {True: "right", False: "wrong", None: "ignored"}[self.is_label]
        return "missed" if self.is_label else "below"


@dataclass(frozen=True)
class ImageResult:
    """Everything that a figure or the gallery shows for one image.

    Attributes:
        image_id: image id of the record, as text.
        file_name: path of the image.
        labels: names of the true classes; None if they are unknown.
        students: results of :func:`class_results` by role.
        regions: the teacher's detections, with ``pred_boxes`` in original pixels, ``scores`` and ``pred_classes``; None
            without a teacher.
        activations: (H, W) class activation maps by role, then by name of the class.
    """

    image_id: str
    file_name: str
    labels: tuple[str, ...] | None
    students: Mapping[str, tuple[ClassResult, ...]] = field(default_factory=dict)
    regions: Instances | None = None
    activations: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)


def class_results(
    scores: np.ndarray,
    class_names: Sequence[str],
    labels: Collection[int],
    *,
    ignored: Collection[int] = (),
    thresholds: np.ndarray | float = 0.5,
) -> tuple[ClassResult, ...]:
    """Return the classes to show for an image: the three best, all predicted classes, and all labels.

    Args:
        scores: (C,) probabilities.
        class_names: C names.
        labels: indices of the true classes.
        ignored: indices of the classes that are ignored unless they are labels.
        thresholds: one threshold, or (C,) thresholds; a class is predicted if its score is at least its threshold.

    Returns:
        Results, highest score first; classes with equal scores keep their order in ``class_names``.
    """
    predicted = scores >= np.asarray(thresholds, dtype=scores.dtype)  # as the metrics decide
    shown = []
    for rank, index in enumerate(np.argsort(-scores, kind="stable").tolist()):
        if rank < 3 or predicted[index] or index in labels:
            is_label = True if index in labels else None if index in ignored else False
            shown.append(ClassResult(class_names[index], float(scores[index]), is_label, bool(predicted[index])))
    return tuple(shown)


def image_result(
    record: dict,
    class_names: Sequence[str],
    *,
    baseline: dict | None = None,
    distilled: dict | None = None,
    teacher: dict | None = None,
    thresholds: Mapping[str, np.ndarray | float] | None = None,
) -> ImageResult:
    """Combine a record and the outputs of the models for its image.

    Args:
        record: Detectron2 dataset dict with ``image_id``, ``file_name`` and optionally ``labels`` and
            ``ignored_labels``. Without labels, predictions are neither right nor wrong.
        class_names: C names.
        baseline, distilled: outputs of the students, with ``image_scores``, a (C,) tensor, and optionally
            ``activation_maps`` (C, H, W).
        teacher: output of the teacher, with ``instances`` in original pixels.
        thresholds: thresholds by role (``baseline``, ``distilled``), by default 0.5; see :func:`class_results`.
    """
    labels = record.get("labels")
    ignored = range(len(class_names)) if labels is None else record.get("ignored_labels", ())
    students, activations = {}, {}
    for role, output in zip(STUDENTS, (baseline, distilled), strict=True):
        if output is None:
            continue
        scores, threshold = output["image_scores"].detach().cpu().numpy(), (thresholds or {}).get(role, 0.5)
        students[role] = class_results(scores, class_names, labels or (), ignored=ignored, thresholds=threshold)
        if "activation_maps" in output:
            maps = dict(zip(class_names, output["activation_maps"].detach().cpu().numpy(), strict=True))
            activations[role] = {shown.class_name: maps[shown.class_name] for shown in students[role]}
    return ImageResult(
        image_id=str(record["image_id"]),
        file_name=str(record["file_name"]),
        labels=None if labels is None else tuple(class_names[label] for label in labels),
        students=students,
        regions=None if teacher is None else teacher["instances"].to("cpu"),
        activations=activations,
    )


def format_score(score: float) -> str:
    """Return a score with two digits; a positive score never looks like 0."""
    return "<0.01" if 0 < score < 0.005 else f"{score:.2f}"


def printable_line(text: str) -> str:
    """Return the text on one line, with a space in place of each unprintable character."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))
