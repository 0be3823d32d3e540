"""The process that `startup` measures. It starts like training and reads the first batches.

It does not import other benchmark modules, so that it has the same imports as training. The last line of its output is
JSON: the time at the end of each phase, and the memory of each process.
"""

import json
import multiprocessing
import os
import sys
import time
from itertools import islice
from pathlib import Path

from mlickd.data import build_train_loader
from mlickd.engine import check_inputs, finalize_config, load_config
from mlickd.errors import run_tool


def main() -> None:
    """Run the phases and print the report. Arguments: number of batches, configuration file, KEY VALUE pairs."""
    moments = {}

    def end_phase(name: str) -> None:
        moments[name] = time.time()

    end_phase("imports")
    num_batches, config_file, *options = sys.argv[1:]
    cfg = load_config(config_file, options)
    finalize_config(cfg)
    end_phase("datasets")
    check_inputs(cfg)
    end_phase("checks")
    batches = iter(build_train_loader(cfg))
    end_phase("loader")
    next(batches)
    end_phase("first batch")
    for _ in islice(batches, int(num_batches)):
        pass
    pids = {"trainer": os.getpid()}
    pids |= {f"worker {i}": worker.pid for i, worker in enumerate(multiprocessing.active_children(), 1)}
    memory = {name: process_memory(pid) for name, pid in pids.items()}
    peak = process_memory(os.getpid(), "status").get("VmHWM", 0)
    print(json.dumps({"moments": moments, "memory": memory, "peak": peak}), flush=True)


def process_memory(pid: int, file: str = "smaps_rollup") -> dict[str, int]:
    """Return the sizes in bytes that Linux reports in a file of ``/proc/<pid>``; empty on other systems."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    fields = [line.split() for line in lines if line.endswith("kB")]
    return {name.rstrip(":"): 1024 * int(value) for name, value, _ in fields}


if __name__ == "__main__":
    run_tool(main)
