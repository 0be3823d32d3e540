"""Multi-label classification metrics as pure functions on arrays.

Implementations in use differ in the AP rule, in ties, in two kinds of CF1 and two kinds of top-k. Here both
kinds of the last two are reported, ties never depend on the order of the data, and :func:`multilabel_metrics`
returns the protocol beside the numbers. All values are fractions in 0..1.
"""

from __future__ import annotations

import numpy as np

AVERAGE_PRECISION_RULES = {
    "ranking": "non-interpolated: mean over positives of the precision at their score",
    "voc12": "VOC 2010-2012: area under the monotone precision envelope",
    "voc07": "VOC 2007: mean of the best precision at 11 recall levels",
}

# Rows of the score matrix whose intermediate arrays fit into a processor's cache.
_IMAGES_AT_ONCE = 1024


def check_protocol(threshold: float, topk: int, ap: str) -> None:
    """ValueError unless ``threshold`` is in 0..1, ``topk`` at least 1, ``ap`` in AVERAGE_PRECISION_RULES."""
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must be a probability in [0, 1], got {threshold}")
    if isinstance(topk, bool) or topk != int(topk) or topk < 1:
        raise ValueError(f"topk must be an integer of at least 1, got {topk}")
    if ap not in AVERAGE_PRECISION_RULES:
        raise ValueError(f"unknown AP rule '{ap}': choose one of {', '.join(AVERAGE_PRECISION_RULES)}")


def area_under_curve(true_positives: np.ndarray, predicted: np.ndarray, positives: int, ap: str) -> float:
    """
    AP from cumulative counts at the distinct thresholds of a ranking.

    Args:
        true_positives: (T,) integers, true positives at or above each distinct score, highest score first.
        predicted: (T,) integers, everything predicted at or above each distinct score; at least 1.
        positives: how many positives there are to find, found or not.
        ap: a key of AVERAGE_PRECISION_RULES.

    Returns:
        AP in 0..1, NaN when there is no positive to find.
    """
    check_protocol(0.5, 1, ap)
    if positives == 0:
        return float("nan")
    if len(predicted) == 0:
        return 0.0
    precision = true_positives / predicted
    if ap != "ranking":
        # Everett et al., "The PASCAL Visual Object Classes Challenge", section 4.2: best precision at this
        # recall or more.
        precision = np.maximum.accumulate(precision[::-1])[::-1]
    if ap == "voc07":
        # Recall >= level / 10 in integers: in floating point, recall 3/10 falls short of 3 * 0.1.
        reached = np.searchsorted(10 * true_positives, np.arange(11) * positives)
        return float(np.append(precision, 0.0)[reached].mean())
    return float(np.diff(true_positives, prepend=0) @ precision / positives)


def average_precision(scores: np.ndarray, targets: np.ndarray, *, ap: str = "ranking") -> float:
    """
    Average precision of one class.

    Items of equal score enter together: the curve has one point per distinct score, never one inside a tie,
    where it would depend on the sort order. A constant score therefore gets the prevalence of the class, not
    anything between 0 and 1. With ``ap="ranking"`` this is the step-wise AP of scikit-learn,
    ``sum_t (R_t - R_{t-1}) P_t``.

    Args:
        scores: (N,) any finite real scores; only their order counts.
        targets: (N,) 1 positive, 0 negative, -1 ignore: as if the item were not there.
        ap: "ranking", "voc12" (area under the precision envelope) or "voc07" (11 points).

    Returns:
        AP in 0..1, NaN without a positive.

    Raises:
        ValueError: shapes that differ, a score that is not finite, a target other than -1, 0, 1, an unknown
            ``ap``.
    """
    scores, targets = _as_floating(scores), np.asarray(targets)
    check_protocol(0.5, 1, ap)
    _check_targets(scores, targets, ndim=1)
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    return _average_precision(scores, targets != -1, targets == 1, ap)


def multilabel_metrics(
    scores: np.ndarray, targets: np.ndarray, *, threshold: float = 0.5, topk: int = 3, ap: str = "ranking"
) -> dict:
    """
    All the usual multi-label metrics, under one named protocol.

    Three rules say what counts as predicted: ``score >= threshold`` (no prefix), the ``topk`` highest scores
    of an image (prefix ``top3/``), and those of the top-k that also reach the threshold
    (``top3_thresholded/``). For each:

    - ``CP``, ``CR``: precision and recall averaged over the classes that have a positive; the precision of a
      class that is never predicted is 0. ``CF1``: harmonic mean of CP and CR (ML-GCN, ASL, Q2L).
      ``CF1_class_mean``: mean over classes of per-class F1 (SRN, mmpretrain).
    - ``OP``, ``OR``, ``OF1``: from counts summed over all classes, those without a positive included: their
      predictions are false positives.

    Where classes tie for the last of the k places, each takes an equal share of the places left, so k
    predictions are counted whatever the order of the classes. A constant scorer gets recall k/C and the
    prevalence as precision, exactly what choosing at random gets on average, instead of the frequency of the
    classes that happen to come first.

    Args:
        scores: (N, C) probabilities. Logits are refused, never guessed.
        targets: (N, C) 1 positive, 0 negative, -1 ignore. The score of an ignored entry changes nothing; it
            takes no place in the top-k either.
        threshold: score from which a class is predicted (inclusive).
        topk: number of classes predicted per image; all of them where there are fewer.
        ap: AP rule, see :func:`average_precision`.

    Returns:
        dict of floats ``mAP, CP, CR, CF1, CF1_class_mean, OP, OR, OF1`` (the last seven also under
        ``f"top{topk}/"`` and ``f"top{topk}_thresholded/"``; NaN where there is no positive at all), ``AP``
        (list of C floats, NaN for a class without positives), the integers
        ``images, images_ignored, images_without_positives, classes, classes_without_positives``, and the dict
        ``protocol``. ``images`` and ``classes`` are those that count; images_ignored (every target -1) and
        classes_without_positives are left out of them; images without a positive do count.

    Raises:
        ValueError: shapes that differ or are empty; a score outside [0, 1] or NaN; a target other than -1, 0,
            1; threshold, topk or ap out of range.
    """
    scores, targets = _as_floating(scores), np.asarray(targets)
    check_protocol(threshold, topk, ap)
    _check_targets(scores, targets, ndim=2)
    if scores.size == 0:
        raise ValueError(f"scores must hold at least one image and one class, got shape {scores.shape}")
    _check_probabilities(scores)

    topk = int(topk)
    known, positive = targets != -1, targets == 1
    positives = np.count_nonzero(positive, axis=0)
    counted_classes = positives > 0
    by_class = zip(*(np.ascontiguousarray(array.T) for array in (scores, known, positive)), strict=True)
    per_class = [_average_precision(*of_class, ap) for of_class in by_class]
    metrics: dict = {"mAP": _mean(np.array(per_class)[counted_classes])}
    prefixes = ("", f"top{topk}/", f"top{topk}_thresholded/")
    counts = _count_predictions(scores, known, positive, float(threshold), topk)
    for prefix, (hits, predicted) in zip(prefixes, counts, strict=True):
        values = _precision_recall(hits, predicted, positives.astype(np.float64))
        metrics.update({prefix + key: value for key, value in values.items()})

    counted_images = known.any(axis=1)
    metrics["AP"] = per_class
    metrics["images"] = int(counted_images.sum())
    metrics["images_ignored"] = int((~counted_images).sum())
    metrics["images_without_positives"] = int((counted_images & ~positive.any(axis=1)).sum())
    metrics["classes"] = int(counted_classes.sum())
    metrics["classes_without_positives"] = int((~counted_classes).sum())
    metrics["protocol"] = {
        "ap": ap,
        "ap_rule": AVERAGE_PRECISION_RULES[ap],
        "ties": "equal scores enter the AP curve together; ties at the last top-k place share it equally",
        "threshold": float(threshold),
        "threshold_rule": f"score >= {threshold:g}",
        "topk": topk,
        "topk_rule": f"the {topk} highest scores of an image, whatever their value; "
        f"'thresholded': those of them with score >= {threshold:g}",
        "images": "all but those with every target ignored; images without a positive count",
        "classes": "mAP, CP, CR, CF1, CF1_class_mean: classes with a positive; OP, OR, OF1: all classes",
        "ignored": "entries with target -1 count nowhere and take no top-k place",
    }
    return metrics


def _average_precision(scores: np.ndarray, known: np.ndarray, positive: np.ndarray, ap: str) -> float:
    found = scores[positive]
    scores = scores if known.all() else scores[known]
    # Below the score of a positive, precision only falls until the next one: the curve is needed at their scores alone.
    # Sorting values, not places, takes a fraction of the time.
    thresholds, counts = np.unique(found, return_counts=True)
    predicted = len(scores) - np.searchsorted(np.sort(scores), thresholds)
    return area_under_curve(np.cumsum(counts[::-1]), predicted[::-1], len(found), ap)


def threshold_counts(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Cumulative counts at the last item of every run of equal scores.

    Args:
        scores: (N,) sorted, highest first.
        positive: (N,) booleans in the same order.

    Returns:
        (T,) true positives and (T,) predicted items at or above each of the T distinct scores.
    """
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)])
    return np.cumsum(positive, dtype=np.int64)[ends], ends + 1


def _count_predictions(
    scores: np.ndarray, known: np.ndarray, positive: np.ndarray, threshold: float, topk: int
) -> np.ndarray:
    """(3, 2, C) true positives and predictions of each class: by the threshold, in the top-k, and in both."""
    counts = np.zeros((3, 2, scores.shape[1]))
    for first in range(0, len(scores), _IMAGES_AT_ONCE):
        rows = slice(first, first + _IMAGES_AT_ONCE)
        above_threshold = known[rows] & (scores[rows] >= threshold)  # compared in the precision of the scores
        in_topk = _topk_shares(scores[rows], known[rows], topk)
        for rule, predicted in enumerate((above_threshold, in_topk, in_topk * above_threshold)):
            counts[rule] += _column_sums(predicted * positive[rows]), _column_sums(predicted)
    return counts


def _column_sums(block: np.ndarray) -> np.ndarray:
    # A matrix product takes a fraction of the time of a sum over the first axis.
    return np.ones(len(block)) @ block.astype(np.float64, copy=False)


def _topk_shares(scores: np.ndarray, known: np.ndarray, topk: int) -> np.ndarray:
    """(N, C) share in 0..1 of each class in the top-k places of its image: min(k, known) in all."""
    topk = min(topk, scores.shape[1])
    ranked = np.where(known, scores, -1.0)
    last = np.partition(ranked, -topk, axis=1)[:, -topk, None]
    certain = ranked > last
    tied = (ranked == last) & known
    places = topk - certain.sum(axis=1, keepdims=True)
    sharing = tied.sum(axis=1, keepdims=True)
    if (sharing <= places).all():  # nobody has to share
        return certain | tied
    return certain + tied * (places / np.maximum(sharing, 1))


def _precision_recall(
    hits_of_class: np.ndarray, predicted_of_class: np.ndarray, positives_of_class: np.ndarray
) -> dict[str, float]:
    """The seven P/R/F1 values from true positives, predictions and positives of each class, (C,) each."""
    counted = positives_of_class > 0
    precision = _ratio(hits_of_class, predicted_of_class)[counted]
    recall = _ratio(hits_of_class, positives_of_class)[counted]
    overall_precision = overall_recall = float("nan")
    if counted.any():
        overall_precision = float(_ratio(hits_of_class.sum(), predicted_of_class.sum()))
        overall_recall = float(hits_of_class.sum() / positives_of_class.sum())
    return {
        "CP": _mean(precision),
        "CR": _mean(recall),
        "CF1": float(_harmonic_mean(_mean(precision), _mean(recall))),
        "CF1_class_mean": _mean(_harmonic_mean(precision, recall)),
        "OP": overall_precision,
        "OR": overall_recall,
        "OF1": float(_harmonic_mean(overall_precision, overall_recall)),
    }


def _ratio(numerator, denominator) -> np.ndarray:
    """Quotient, 0 where the denominator is 0."""
    return np.asarray(numerator / np.where(denominator == 0, 1.0, denominator))


def _harmonic_mean(a, b) -> np.ndarray:
    return _ratio(2.0 * a * b, np.asarray(a + b))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _as_floating(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores)
    return scores if np.issubdtype(scores.dtype, np.floating) else scores.astype(np.float64)


def _check_targets(scores: np.ndarray, targets: np.ndarray, ndim: int) -> None:
    if scores.shape != targets.shape or scores.ndim != ndim:
        shape = "(N, C)" if ndim == 2 else "(N,)"
        raise ValueError(f"scores and targets must both have shape {shape}, got {scores.shape} and {targets.shape}")
    if np.issubdtype(targets.dtype, np.integer):
        valid = not targets.size or targets.min() >= -1 and targets.max() <= 1
    else:
        valid = ((targets == 0) | (targets == 1) | (targets == -1)).all()
    if not valid:
        raise ValueError("targets must be 1 (positive), 0 (negative) or -1 (ignore)")


def _check_probabilities(scores: np.ndarray) -> None:
    valid = (scores >= 0) & (scores <= 1)  # False for NaN
    if not valid.all():
        image, label = np.argwhere(~valid)[0]
        raise ValueError(
            f"scores must be probabilities in [0, 1], got {scores[image, label]} at image {image}, class "
            f"{label}: apply the sigmoid to logits, and look for NaN in the model"
        )
