"""Seconds from the command to the first training batch, and the memory of trainer and loader workers then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mlickd.errors import InputError
from mlickd.runs import machine_line

from .memory import resident_together

__all__ = ["measure_startup", "startup_table"]


def measure_startup(
    root: Path, config_file: Path, options: list[str], *, num_workers: int = 2, num_batches: int = 10
) -> dict[str, Any]:
    """Start training in a new process, up to the first batch, and some batches further.

    Datasets, checks and loaders are those of `tools/train_net.py`; no model is built.

    Args:
        root: DETECTRON2_DATASETS of the process.
        config_file: of the teacher, so that proposals are read.
        options: KEY VALUE pairs for the configuration.
        num_workers: of the loader.
        num_batches: read after the first one, before memory is measured again.

    Returns:
        ``machine``; ``seconds`` by the clock of each phase, and their ``total``; the same in ``cpu_seconds`` of the
        trainer's process, which depend less on what else the machine does; ``peak`` resident bytes of the trainer;
        ``memory`` after the first batch and ``memory_later`` after the others, for each process as `resident_memory`.

    Raises:
        InputError: the process ended with an error, which it has told.
    """
    given = ["MODEL.BACKBONE.WEIGHTS", "", "DATALOADER.NUM_WORKERS", str(num_workers)]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(root.absolute())}
    command = [sys.executable, "-m", "mlickd.benchmarks.startup_process", str(num_batches), str(config_file)]
    started = time.time()
    process = subprocess.run(
        [*command, *given, *options], env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=False
    )
    if process.returncode:
        raise InputError(f"--config-file {config_file}: training did not start; do what its message above says")
    report = json.loads(process.stdout.splitlines()[-1])
    moments = {"start": started, **report.pop("moments")}
    names = list(moments)
    seconds = {name: moments[name] - moments[before] for before, name in zip(names, names[1:], strict=False)}
    seconds["total"] = moments[names[-1]] - started
    spent = {"start": 0.0, **report.pop("cpu")}
    cpu = {name: spent[name] - spent[before] for before, name in zip(names, names[1:], strict=False)}
    cpu["total"] = spent[names[-1]]
    return {"machine": machine_line(), "seconds": seconds, "cpu_seconds": cpu, **report}


def startup_table(report: dict[str, Any]) -> str:
    """The report of :func:`measure_startup` for a terminal."""
    seconds = [
        (name, f"{value:.1f}", f"{report['cpu_seconds'][name]:.1f}") for name, value in report["seconds"].items()
    ]
    seconds = tabulate(seconds, ("phase", "s", "CPU s of the trainer"))
    rows = []
    for moment, key in (("first batch", "memory"), ("later", "memory_later")):
        for process, values in report[key].items():
            rows.append((moment, process, *(f"{values[name] / 1e6:.0f}" for name in ("Rss", "Pss"))))
        if report[key]:
            sums = (sum(values[name] for values in report[key].values()) for name in ("Rss", "Pss"))
            rows.append((moment, "sum", *(f"{value / 1e6:.0f}" for value in sums)))
            alone = resident_together(report[key].values())
            rows.append((moment, "sum, were nothing else running", "", f"{alone / 1e6:.0f}"))
    memory = tabulate(rows, ("after", "process", "RSS, MB", "PSS, MB")) if rows else "no memory figures on this system"
    peak = f"\nlargest resident set of the trainer: {report['peak'] / 1e6:.0f} MB" if report["peak"] else ""
    return f"{report['machine']}\n\n{seconds}\n\n{memory}{peak}\nPSS counts a page that n processes share as 1/n each."
