"""The command `mlickd benchmark`."""

import argparse
import inspect
import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from mlickd.cli.command_line import command_parser, positive_int, typed_command
from mlickd.errors import InputError

from .inference import measure_inference
from .measurement import BenchmarkResult, results_table, write_results
from .prediction import measure_prediction
from .proposals import measure_proposals
from .settings import NETWORKS
from .startup import measure_memory, measure_startup
from .step import measure_step
from .training import measure_training

# Benchmarks by name, in the order of `all`. Their arguments are the options of the command.
BENCHMARKS: dict[str, Callable[..., list[BenchmarkResult]]] = {
    "step": measure_step,
    "proposals": measure_proposals,
    "inference": measure_inference,
    "prediction": measure_prediction,
    "training": measure_training,
    "startup": measure_startup,
    "memory": measure_memory,
}
EPILOG = """\
benchmarks:
{}
example:
  mlickd benchmark all --output output/benchmark

Options other than --quick and --output are for a single benchmark, which refuses the options that it does not have. The
functions in projects/MLICKD/benchmarks describe their defaults. OMP_NUM_THREADS sets the number of threads.
"""
# Values of options with --quick.
_QUICK = {"networks": ["efficientnet-lite0"], "batch_size": 2, "repetitions": 1, "images": 20, "workers": 1}
_QUICK |= {"proposals": 5, "batches": 1, "iterations": 2}


def parse_arguments(description: str) -> tuple[argparse.Namespace, dict]:
    """Return the command line, and its options for a single benchmark that are given."""
    titles = (f"  {name:<11} {inspect.getdoc(measure).splitlines()[0]}\n" for name, measure in BENCHMARKS.items())
    parser = command_parser(description, EPILOG.format("".join(titles)))
    parser.add_argument("benchmark", choices=[*BENCHMARKS, "all"], metavar="BENCHMARK", help="one of these, or all")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, as a test of the benchmark")
    output_help = "folder for <name>.json and <name>.md (default: %(default)s)"
    parser.add_argument("--output", type=Path, default="output/benchmark", metavar="FOLDER", help=output_help)
    single = parser.add_argument_group("options for a single benchmark")
    single.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), help="networks of step and inference")
    for name, text in (
        ("repetitions", "timed repetitions"),
        ("batch-size", "images of a batch of step and inference"),
        ("images", "number of images or photos"),
        ("iterations", "iterations of training"),
        ("workers", "worker processes of the loader"),
        ("proposals", "proposals of each image of startup and memory"),
        ("batches", "batches that startup reads before it measures memory"),
    ):
        single.add_argument(f"--{name}", type=positive_int, metavar="N", help=text)
    single.add_argument("--dataset", metavar="NAME", help="folder dataset of training, without _train and _test")
    single.add_argument("--data", metavar="FOLDER", help="folder that keeps the data of startup")
    single.add_argument("--options", nargs="+", metavar="KEY VALUE", help="configuration of startup")
    args = parser.parse_args()
    others = ("benchmark", "quick", "output")
    given = {name: value for name, value in vars(args).items() if name not in others and value is not None}
    allowed = _parameters(args.benchmark) if args.benchmark in BENCHMARKS else ()
    if unused := [f"--{name.replace('_', '-')}" for name in given if name not in allowed]:
        parser.error(f"{args.benchmark}: has no {', '.join(unused)}")
    return args, given


def main(description: str) -> None:
    """Run one or all benchmarks. Write the results after each benchmark, and print them at the end.

    Raises:
        InputError: an option is wrong, or a package is missing.
    """
    args, given = parse_arguments(description)
    names = list(BENCHMARKS) if args.benchmark == "all" else [args.benchmark]
    exports = {"inference", "prediction"} & set(names)
    if exports and not all(map(find_spec, ("onnx", "onnxruntime", "onnxscript"))):
        raise InputError(f"{args.benchmark}: needs the extra export; run `pip install -e '.[export]'`")
    logging.getLogger("mlickd").setLevel(logging.ERROR)  # hides warnings about classes without images
    results = {}
    for name in names:
        print(f"{name}: {inspect.getdoc(BENCHMARKS[name]).splitlines()[0]}", flush=True)
        quick = {key: value for key, value in _QUICK.items() if args.quick and key in _parameters(name)}
        results[name] = BENCHMARKS[name](**quick | given)
        write_results(results, typed_command(), args.output, args.benchmark)
    print(f"{results_table(results)}\nwritten to {args.output / args.benchmark}.json and .md", flush=True)


def _parameters(benchmark: str) -> list[str]:
    return list(inspect.signature(BENCHMARKS[benchmark]).parameters)
