"""The process that :func:`mlickd.benchmarks.measure_startup` starts; its last line of output is the report in JSON."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from itertools import islice

from mlickd.data import build_train_loader
from mlickd.engine import check_inputs, complete_config, load_config
from mlickd.errors import run_tool

from .memory import peak_memory, resident_memory

__all__ = ["main"]


def main() -> None:
    """Load what training loads up to its first batches, and print seconds and bytes as one line of JSON."""
    moments, cpu = {}, {}

    def done(phase: str) -> None:
        moments[phase], cpu[phase] = time.time(), time.process_time()

    done("imports")
    num_batches, config_file, *options = sys.argv[1:]
    cfg = load_config(config_file, options)
    complete_config(cfg)
    done("datasets")
    check_inputs(cfg)
    done("checks")
    batches = iter(build_train_loader(cfg))
    done("loader")
    next(batches)
    done("first batch")
    report = {"moments": moments, "cpu": cpu, "memory": _memory(), "peak": peak_memory(os.getpid())}
    for _ in islice(batches, int(num_batches)):
        pass
    print(json.dumps({**report, "memory_later": _memory()}), flush=True)  # noqa: T201


def _memory() -> dict[str, dict[str, int]]:
    workers = multiprocessing.active_children()
    pids = {"trainer": os.getpid(), **{f"worker {i}": worker.pid for i, worker in enumerate(workers, start=1)}}
    memory = {name: resident_memory(pid) for name, pid in pids.items()}
    return {name: values for name, values in memory.items() if values}


if __name__ == "__main__":
    run_tool(main)
