"""What a finished pipeline shows: one table, the curves and the gallery."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from mlickd.engine.performance import inference_cost
from mlickd.evaluation.summary import MODELS, collect_results, summary_table
from mlickd.runs import load_run
from mlickd.visualization import draw_class_differences, draw_training_curves
from mlickd.visualization.run_gallery import write_gallery_of_runs

__all__ = ["write_report"]

logger = logging.getLogger(__name__)


def write_report(
    folder: Path, test: str, seconds: Mapping[int, Mapping[str, float]], teacher: Path | None = None
) -> str:
    """Write the table (``summary.md``, ``summary.json``) of all seeds under ``folder``, and of the first seed the
    training curves, the differences by class and the gallery.

    Args:
        folder: with a ``seed<k>`` of each seed.
        test: the dataset whose first images the cost is measured on.
        seconds: of each step, by seed.
        teacher: folder of the teacher of all seeds, where they share one.

    Returns:
        The table, for the terminal.
    """
    seeds = list(seconds)
    results = [collect_results(folder / f"seed{seed}", teacher) for seed in seeds]
    costs = {}
    for model in MODELS:
        cfg, loaded = load_run(str(teacher if teacher and model == "teacher" else folder / f"seed{seeds[0]}" / model))
        costs[model] = inference_cost(cfg, loaded, test)
    caption = (
        f"Test split {test}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''} ({', '.join(map(str, seeds))}), "
        f"{torch.get_num_threads()} threads. mAP, CF1 and OF1 in percent; the teacher's milliseconds are without "
        "making its proposals."
    )
    table = summary_table(results, costs, [seconds[seed] for seed in seeds])
    (folder / "summary.md").write_text(f"{table}\n\n{caption}\n")
    summary = {"test": test, "seeds": seeds, "results": results, "costs": costs, "seconds": dict(seconds)}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2))
    _draw(folder, folder / f"seed{seeds[0]}", test, teacher or folder / f"seed{seeds[0]}" / "teacher")
    written = ", ".join(["summary.md", "curves.png", "classes.png", "gallery/index.html", "gallery/plots.html"])
    return f"\n{table}\n\n{caption}\n\nIn {folder}: {written}\n"


def _draw(folder: Path, seed: Path, test: str, teacher: Path) -> None:
    runs = {
        "baseline": [seed / "baseline"],
        "distilled": [seed / "distilled" / "feature", seed / "distilled" / "prediction"],
    }
    draw_training_curves(runs, folder / "curves.png")
    results = [
        run / "inference" / test / "multilabel_results.json"
        for run in (seed / "baseline", seed / "distilled" / "prediction")
    ]
    draw_class_differences(*results, folder / "classes.png")
    write_gallery_of_runs(
        test,
        folder / "gallery",
        teacher=teacher,
        baseline=seed / "baseline",
        distilled=seed / "distilled" / "prediction",
    )
