"""The command line `tools/gpu_check.py`."""

import gc
import logging
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from unittest import mock

import torch
from tabulate import tabulate

from mlickd.cli.command_line import command_parser, positive_int, typed_command
from mlickd.environment import machine_line
from mlickd.errors import InputError
from mlickd.files import write_json

from .device_runs import RUNS, TOLERANCES, DeviceRuns, matmul_peak

EXAMPLE = "example:\n  python tools/gpu_check.py --output output/gpu_check\n"
COLUMNS = ("run", "precision", "images/s", "data and teacher", "GB", "TFLOP/s", "of peak", "loss to CPU")
COLUMNS += ("gradient to CPU", "first loss", "last loss", "resumed", "repeated", "problem")


def main(description: str) -> None:
    """Check a device. Write the report after each run, print the table, and exit with status 1 if a run has failed.

    Raises:
        InputError: the device is not available.
    """
    parser = command_parser(description, EXAMPLE)
    parser.add_argument("--device", metavar="NAME", help="cuda, cuda:N or cpu (default: cuda if PyTorch finds a GPU)")
    parser.add_argument("--quick", action="store_true", help="a small network and few images, to test this check")
    for name, default, text in (
        ("iterations", 100, "iterations of a run"),
        ("batch-size", 16, "images of a batch; the configurations have 32 and 28"),
        ("minutes", 8, "do not start another run after N minutes"),
    ):
        text += " (default: %(default)s)"
        parser.add_argument(f"--{name}", type=positive_int, default=default, metavar="N", help=text)
    workers_help = "worker processes of the loader (default: number of cores, at most 8)"
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), metavar="N", help=workers_help)
    output_help = "folder for gpu_check.json and gpu_check.md (default: %(default)s)"
    parser.add_argument("--output", type=Path, default=Path("output/gpu_check"), metavar="FOLDER", help=output_help)
    args = parser.parse_args()
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu" and not torch.cuda.is_available():
        raise InputError(f"--device {device}: PyTorch finds no GPU; give cpu, or install PyTorch with CUDA")
    precisions = [name for name in TOLERANCES if device != "cpu" or name != "float16"]  # float16 needs CUDA
    logging.getLogger("mlickd").setLevel(logging.ERROR)  # hides warnings about classes without images
    end = time.monotonic() + 60 * args.minutes
    peaks = {name: matmul_peak(device, name, 256 if args.quick else 8192) for name in precisions}
    name = torch.cuda.get_device_name(device) if device != "cpu" else "CPU"
    report = {"device": name, "machine": machine_line(), "command": typed_command(), "batch_size": args.batch_size}
    report |= {"iterations": args.iterations, "peak TFLOP/s": {key: round(value, 3) for key, value in peaks.items()}}
    rows: list[dict] = []

    def attempt(run: str, precision: str, *calls: Callable[[], dict]) -> None:
        """Add a row with the results of the calls or the problem, and write the report."""
        rows.append(row := {"run": run, "precision": precision})
        for call in calls:
            if time.monotonic() > end:
                row["problem"] = f"not run, because {args.minutes} minutes have passed"
                break
            try:
                row |= call()
            except Exception as error:  # the other runs still have to run
                traceback.print_exc()
                row["problem"] = f"{type(error).__name__}: {error}".splitlines()[0]
        gc.collect()  # frees the memory of the GPU
        write_report(report, rows, args.output)
        print(tabulate([row], "keys", "plain", floatfmt=".4g"), flush=True)

    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, DETECTRON2_DATASETS=folder):
        runs = DeviceRuns(device, Path(folder), args.batch_size, args.workers, args.quick)
        reference = lru_cache(maxsize=1)(runs.reference)

        def compare(run: str, precision: str) -> dict:
            return runs.compare(run, precision, reference(run)[0])

        def train(run: str, precision: str) -> dict:
            row = runs.train(run, precision, args.iterations)
            speed = row["images/s"] * reference(run)[1] / 1e12
            return row | {"TFLOP/s": speed, "of peak": speed / peaks[precision]}

        attempt("knowledge cache, with its start", "float32", runs.prepare)
        for run, precision in product(RUNS, precisions):
            attempt(run, precision, partial(compare, run, precision), partial(train, run, precision))
        for precision in precisions:
            attempt("stop and resume", precision, partial(runs.resume, precision, max(2, args.iterations // 10)))
    print(f"{write_report(report, rows, args.output)}\nwritten to {args.output}/gpu_check.json and .md", flush=True)
    if any("problem" in row for row in rows):
        raise SystemExit(1)


def write_report(report: dict, rows: list[dict], folder: Path) -> str:
    """Write the report and its table as JSON and Markdown. Return the Markdown."""
    write_json(folder / "gpu_check.json", report | {"rows": rows})
    table = tabulate([[row.get(name) for name in COLUMNS] for row in rows], COLUMNS, "pipe", floatfmt=".4g")
    facts = "\n".join(f"- {key}: {value}" for key, value in report.items())
    text = f"{facts}\n\n{table}\n"
    (folder / "gpu_check.md").write_text(text, encoding="utf-8")
    return text
