"""Average precision of a ranking by each of the common rules. The sort order of ties does not matter."""

from dataclasses import dataclass

import numpy as np

AVERAGE_PRECISION_RULES = {
    "ranking": "non-interpolated: mean over positives of the precision at their score",
    "voc12": "VOC 2010-2012: area under the monotone precision envelope",
    "voc07": "VOC 2007: mean of the best precision at 11 recall levels",
}


@dataclass(frozen=True)
class RankingCurve:
    """Counts at the T distinct scores of the positives, highest score first.

    Between the scores of two positives, precision only falls, so no rule needs the curve at other scores.

    Attributes:
        positives: (T,) integers, numbers of positives with exactly this score; at least 1.
        predicted: (T,) integers, numbers of items with at least this score.
    """

    positives: np.ndarray
    predicted: np.ndarray

    @property
    def true_positives(self) -> np.ndarray:
        """(T,) integers, numbers of positives with at least this score."""
        return np.cumsum(self.positives)

    def average_precision(self, ap: str = "ranking", total: int | None = None) -> float:
        """Return the AP in 0..1 by a rule of AVERAGE_PRECISION_RULES, NaN without a positive.

        ``total`` is the number of all positives, if the ranking lacks some, such as missed objects.
        """
        total = self.positives.sum() if total is None else total
        if total == 0:
            return float("nan")
        precision = self.true_positives / self.predicted
        if ap != "ranking":
            # Everett et al., "The PASCAL Visual Object Classes Challenge", section 4.2: the best precision at this
            # recall or a higher recall.
            precision = np.maximum.accumulate(precision[::-1])[::-1]
        if ap == "voc07":
            # Recall >= level / 10 in integers: in floating point, recall 3/10 is below 3 * 0.1.
            reached = [np.count_nonzero(10 * self.true_positives < level * total) for level in range(11)]
            return float(np.append(precision, 0.0)[reached].mean())
        return float((self.positives * precision).sum() / total)

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (T,) precision and (T,) ascending recall in 0..1."""
        return self.true_positives / self.predicted, self.true_positives / self.positives.sum()


def ranking_curve(scores: np.ndarray, known: np.ndarray, positive: np.ndarray) -> RankingCurve:
    """Compute the curve of one class.

    Args:
        scores: (N,) finite.
        known: (N,) booleans; items that are not known are left out.
        positive: (N,) booleans.
    """
    found = scores[positive]
    # Sorting values takes a fraction of the time of sorting indices.
    ranked = np.sort(scores if known.all() else scores[known])
    thresholds, counts = np.unique(found, return_counts=True)
    predicted = len(ranked) - np.searchsorted(ranked, thresholds)
    return RankingCurve(counts[::-1], predicted[::-1])


def micro_curve(scores: np.ndarray, targets: np.ndarray) -> RankingCurve:
    """Compute the curve of all classes together (micro average) from (N, C) arrays; see :func:`multilabel_metrics`."""
    return ranking_curve(scores.ravel(), targets.ravel() != -1, targets.ravel() == 1)


def class_average_precisions(scores: np.ndarray, known: np.ndarray, positive: np.ndarray, ap: str) -> list[float]:
    """Compute the AP of C classes from (N, C) arrays; see :func:`ranking_curve`."""
    by_class = (np.ascontiguousarray(array.T) for array in (scores, known, positive))
    return [ranking_curve(*columns).average_precision(ap) for columns in zip(*by_class, strict=True)]
