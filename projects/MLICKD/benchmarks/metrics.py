"""Time to evaluate scores of the size of COCO val2014, compared with torchmetrics and scikit-learn."""

import warnings

import numpy as np
import torch

from mlickd.evaluation.metrics import multilabel_metrics

from .measurement import BenchmarkResult, time_interleaved


def measure_metrics(images: int = 40137, classes: int = 80, repetitions: int = 3) -> list[BenchmarkResult]:
    """Seconds of a multi-label evaluation, compared with torchmetrics and scikit-learn.

    All three compute AP of each class, mAP, CP, CR, the class mean of F1, OP, OR and OF1.

    Args:
        images: rows of the score matrix
        classes: columns of the score matrix
        repetitions: timed evaluations by each library
    """
    scores, targets = draw_scores(images, classes)
    calls = {
        "mlickd": lambda: multilabel_metrics(scores, targets),
        "torchmetrics": lambda: torchmetrics_metrics(scores, targets),
        "scikit-learn": lambda: scikit_learn_metrics(scores, targets),
    }
    return [time_interleaved(f"{images:,} images, {classes} classes", calls, repetitions)]


def draw_scores(images: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (images, classes) float32 and correlated labels (images, classes) int64."""
    generator = np.random.default_rng(0)
    labels = (generator.random((images, classes)) < min(0.5, 2.9 / classes)).astype(np.int64)  # 2.9 labels as in COCO
    labels[0] = 1  # every class gets a positive, because the libraries differ for classes without positives
    logits = generator.standard_normal((images, classes)) + 3 * labels - 3
    return (1 / (1 + np.exp(-logits))).astype(np.float32), labels


def torchmetrics_metrics(scores: np.ndarray, targets: np.ndarray) -> dict:
    """Return the metrics of torchmetrics, with exact AP (C,), under the names of this project."""
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


def scikit_learn_metrics(scores: np.ndarray, targets: np.ndarray) -> dict:
    """Return the metrics of scikit-learn, with AP (C,), under the names of this project."""
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    values = {"AP": average_precision_score(targets, scores, average=None)}
    for prefix, average in (("C", "macro"), ("O", "micro")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # classes without predictions
            figures = precision_recall_fscore_support(targets, scores >= 0.5, average=average)
        values |= dict(zip((f"{prefix}P", f"{prefix}R", f"{prefix}F1"), figures, strict=False))
    return {"mAP": values["AP"].mean(), "CF1_class_mean": values.pop("CF1"), **values}
