"""The command `mlickd benchmark`."""

import argparse
import inspect
import logging
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from mlickd.cli.command_line import command_parser, positive_int, typed_command
from mlickd.errors import InputError

from .inference import measure_inference
from .loader import measure_loader
from .measurement import BenchmarkResult, results_table, write_results
from .metrics import measure_metrics
from .prediction import measure_prediction
from .proposals import measure_proposals
from .settings import NETWORKS
from .startup import measure_memory, measure_startup
from .step import measure_step
from .training import measure_training

EXAMPLE = "Example:\n\n  mlickd benchmark {} --output output/benchmark\n"
# Benchmarks by name, in the order of `all`. Docstrings become help texts, and arguments become options.
BENCHMARKS: dict[str, Callable[..., list[BenchmarkResult]]] = {
    "step": measure_step,
    "loader": measure_loader,
    "proposals": measure_proposals,
    "metrics": measure_metrics,
    "inference": measure_inference,
    "prediction": measure_prediction,
    "training": measure_training,
    "startup": measure_startup,
    "memory": measure_memory,
}
# Values of options with --quick.
_QUICK = {"networks": ["efficientnet-lite0"], "batch_size": 2, "repetitions": 1, "size": 64, "images": 20}
_QUICK |= {"classes": 10, "workers": 1, "proposals": 5, "batches": 1, "iterations": 2}
# Required packages, from the extras `bench` and `export`.
_EXPORT = ("onnx", "onnxruntime", "onnxscript")
_PACKAGES = {"metrics": ("torchmetrics", "sklearn"), "inference": _EXPORT, "prediction": _EXPORT}


def parse_arguments(description: str) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(description, EXAMPLE.format("all"))
    commands = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    _add_command(commands, "all", f"All benchmarks: {', '.join(BENCHMARKS)}.")
    for name, measure in BENCHMARKS.items():
        text = inspect.getdoc(measure)
        command = _add_command(commands, name, text.partition("\n\nArgs:")[0])
        helps = dict(re.findall(r"^    (\w+): (.+)$", text, re.MULTILINE))
        for option, parameter in inspect.signature(measure).parameters.items():
            _add_option(command, option, parameter.default, helps[option])
    return parser.parse_args()


def _add_command(commands: argparse._SubParsersAction, name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=text.partition("\n")[0],
        description=text,
        epilog=EXAMPLE.format(name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--quick", action="store_true", help="smallest sizes, as a test of the benchmark")
    command.add_argument("--threads", type=positive_int, metavar="N", help="threads of PyTorch (default: automatic)")
    folder = {"type": Path, "default": Path("output/benchmark"), "metavar": "FOLDER"}
    command.add_argument("--output", **folder, help="folder for <name>.json and <name>.md (default: %(default)s)")
    return command


def _add_option(command: argparse.ArgumentParser, name: str, default: object, text: str) -> None:
    settings: dict[str, Any] = {"type": positive_int, "metavar": "N"}
    if name == "networks":
        settings = {"nargs": "+", "choices": tuple(NETWORKS)}
    elif isinstance(default, tuple):
        settings = {"nargs": "*", "metavar": ("KEY", "VALUE")}
    elif isinstance(default, str):
        settings = {"metavar": "NAME"}
    if default:
        text += f" (default: {' '.join(default) if isinstance(default, tuple) else default})"
    command.add_argument(f"--{name.replace('_', '-')}", help=text, **settings)


def main(description: str) -> None:
    """Run one or all benchmarks. Write the results after each benchmark, and print them at the end.

    Raises:
        InputError: an option is wrong, or a package is missing.
    """
    args = parse_arguments(description)
    names = list(BENCHMARKS) if args.benchmark == "all" else [args.benchmark]
    packages = [package for name in names for package in _PACKAGES.get(name, ()) if find_spec(package) is None]
    if packages:
        raise InputError(f"{args.benchmark}: needs {', '.join(packages)}; run `pip install -e .[bench,export]`")
    logging.getLogger("mlickd").setLevel(logging.ERROR)  # hides warnings about classes without images
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    results = {}
    for name in names:
        print(f"{name}: {inspect.getdoc(BENCHMARKS[name]).partition(chr(10))[0]}", flush=True)
        given = {key: getattr(args, key, None) for key in inspect.signature(BENCHMARKS[name]).parameters}
        if args.quick:
            given |= {key: _QUICK[key] for key, value in given.items() if value is None and key in _QUICK}
        results[name] = BENCHMARKS[name](**{key: value for key, value in given.items() if value is not None})
        write_results(results, typed_command(), args.output, args.benchmark)
    print(f"{results_table(results)}\nwritten to {args.output / args.benchmark}.json and .md", flush=True)
