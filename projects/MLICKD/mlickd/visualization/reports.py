"""Reading what training and evaluation have left in the folder of a run (its ``OUTPUT_DIR``)."""

from __future__ import annotations

import json
import math
from pathlib import Path

from mlickd.errors import InputError

__all__ = ["multilabel_results", "multilabel_results_path", "training_metrics"]


def training_metrics(folder: str | Path) -> dict[int, dict[str, float]]:
    """What Detectron2's ``JSONWriter`` has written into ``metrics.json``.

    Of an iteration that was done again after a resume the last values count.

    Returns:
        Finite metrics by name, by iteration, in ascending order.

    Raises:
        InputError: the file is missing or is not what Detectron2 writes.
    """
    path = Path(folder) / "metrics.json"
    metrics: dict[int, dict[str, float]] = {}
    lines = _read(path, "train the run first, or name its OUTPUT_DIR").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            iteration = int(values.pop("iteration"))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            if number == len(lines):
                break  # the run was stopped while it wrote
            raise InputError(f"{path}: line {number}: not a line of Detectron2's metrics.json; remove it") from None
        finite = {
            key: value for key, value in values.items() if isinstance(value, (int, float)) and math.isfinite(value)
        }
        metrics.setdefault(iteration, {}).update(finite)
    return dict(sorted(metrics.items()))


def multilabel_results_path(folder: str | Path, dataset_name: str) -> Path:
    """Where training leaves the report of :class:`mlickd.evaluation.MultiLabelEvaluator` on a dataset."""
    return Path(folder) / "inference" / dataset_name / "multilabel_results.json"


def multilabel_results(path: str | Path) -> dict:
    """The report of :class:`mlickd.evaluation.MultiLabelEvaluator`, in percent.

    Raises:
        InputError: the file is missing or is no such report.
    """
    text = _read(Path(path), "evaluate the run on this dataset first")
    try:
        report = json.loads(text)
        if "mAP" in report["metrics"] and all("AP" in values for values in report["per_class"].values()):
            return report
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise InputError(f"{path}: not a report of the multi-label evaluator; evaluate the run again")


def _read(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {remedy}") from error
