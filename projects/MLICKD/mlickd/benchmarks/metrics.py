"""An evaluation at the size of COCO's, against torchmetrics and scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from mlickd.evaluation.metrics import multilabel_metrics

from .comparison import Comparison, Target
from .registry import Option, benchmark
from .timing import interleaved

__all__ = ["draw_scores", "measure_metrics", "metrics_of_scikit_learn", "metrics_of_torchmetrics"]

_LABELS = 2.9  # of an image, on average, as in COCO val2014


@benchmark(
    "metrics",
    "seconds of a multi-label evaluation, against torchmetrics and scikit-learn",
    packages=("torchmetrics", "sklearn"),
    images=Option("images that are scored", quick=200),
    classes=Option("classes", quick=10, minimum=2),
    repetitions=Option("evaluations that are timed of each", quick=1),
)
def measure_metrics(images: int = 40137, classes: int = 80, repetitions: int = 3) -> list[Comparison]:
    """The figures that all three know (AP of each class, mAP, CP, CR, CF1 as the classes' mean, OP, OR, OF1).

    Ours gives the other CF1 and two kinds of top-3 figures besides, in the same time.

    Args:
        images, classes: size of the score matrix.
        repetitions: rounds of one evaluation each.
    """
    scores, targets = draw_scores(images, classes)
    calls = {
        "mlickd": lambda: multilabel_metrics(scores, targets),
        "torchmetrics": lambda: metrics_of_torchmetrics(scores, targets),
        "scikit-learn": lambda: metrics_of_scikit_learn(scores, targets),
    }
    title = f"{images:,} images, {classes} classes"
    targets_met = [Target("torchmetrics", "mlickd", 10, at_least=True)]
    return [Comparison(title, "s", interleaved(calls, repetitions, title=title), targets_met)]


def draw_scores(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(images, classes) float32 probabilities and int64 labels that they have something to do with."""
    generator = np.random.default_rng(seed)
    labels = (generator.random((images, classes)) < min(0.5, _LABELS / classes)).astype(np.int64)
    labels[0] = 1  # no class without a positive, which the three count differently
    logits = generator.standard_normal((images, classes)) + 3 * labels - 3
    return (1 / (1 + np.exp(-logits))).astype(np.float32), labels


def metrics_of_torchmetrics(scores: np.ndarray, targets: np.ndarray) -> dict:
    """With torchmetrics' own exact (not binned) AP, under this project's names; AP is (C,)."""
    from torchmetrics import MetricCollection
    from torchmetrics import classification as metrics

    arguments = {"num_labels": scores.shape[1]}
    figures = {"AP": metrics.MultilabelAveragePrecision(average="none", **arguments)}
    for prefix, average in (("C", "macro"), ("O", "micro")):
        figures[f"{prefix}P"] = metrics.MultilabelPrecision(average=average, **arguments)
        figures[f"{prefix}R"] = metrics.MultilabelRecall(average=average, **arguments)
        figures[f"{prefix}F1"] = metrics.MultilabelF1Score(average=average, **arguments)
    collection = MetricCollection(figures)
    collection.update(torch.from_numpy(scores), torch.from_numpy(targets))
    values = {name: value.numpy() for name, value in collection.compute().items()}
    return {"mAP": values["AP"].mean(), "CF1_class_mean": values.pop("CF1"), **values}


def metrics_of_scikit_learn(scores: np.ndarray, targets: np.ndarray) -> dict:
    """With scikit-learn, under this project's names; AP is (C,)."""
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    values = {"AP": average_precision_score(targets, scores, average=None)}
    predicted = scores >= 0.5
    for prefix, average in (("C", "macro"), ("O", "micro")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class that is never predicted
            precision, recall, f1, _ = precision_recall_fscore_support(targets, predicted, average=average)
        values |= {f"{prefix}P": precision, f"{prefix}R": recall, f"{prefix}F1": f1}
    return {"mAP": values["AP"].mean(), "CF1_class_mean": values.pop("CF1"), **values}
