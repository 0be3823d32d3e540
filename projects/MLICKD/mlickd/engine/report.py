"""What a finished pipeline shows: one table, the curves and the gallery."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from mlickd.evaluation.summary import MODELS, collect_results, summary_table

from .cost import inference_cost
from .inference import load_run

__all__ = ["write_report"]

logger = logging.getLogger(__name__)


def write_report(folder: Path, test: str, seconds: Mapping[int, Mapping[str, float]]) -> str:
    """Write ``summary.md`` and ``summary.json`` of the seeds under ``folder``.

    Args:
        folder: with a ``seed<k>`` of each seed.
        test: the data set whose first images the cost is measured on.
        seconds: of each step, by seed.

    Returns:
        The table, for the terminal.
    """
    seeds = list(seconds)
    results = [collect_results(folder / f"seed{seed}") for seed in seeds]
    costs = {}
    for model in MODELS:
        cfg, loaded = load_run(str(folder / f"seed{seeds[0]}" / model))
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
    return f"\n{table}\n\n{caption}\n"
