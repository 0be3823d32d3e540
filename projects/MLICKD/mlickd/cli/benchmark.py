"""Measure what the project costs on this machine, beside what one would use or write instead; all on the CPU."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from mlickd.benchmarks import measure_startup, startup_table, write_synthetic_coco
from mlickd.benchmarks.suite import BENCHMARKS, Benchmark, Report, run_benchmark, table, write_reports
from mlickd.cli.command_line import as_called, command_parser
from mlickd.cli.repository import shipped_config
from mlickd.errors import InputError
from mlickd.files import write_json

EPILOG = """
Examples:

  Everything, with one table at the end:
    python tools/benchmark.py all --output output/benchmark

  One of them, in its smallest form:
    python tools/benchmark.py metrics --quick
"""
STARTUP_EXAMPLE = """
Example:

  The size of COCO train2014 with 500 proposals an image; 1.5 GB of data are made once and kept in the folder:
    python tools/benchmark.py startup --data output/benchmark --json output/startup.json
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="WHAT")
    everything = add_command(commands, "all", f"one after the other: {', '.join(BENCHMARKS)}")
    everything.set_defaults(run=run_all)
    for benchmark in BENCHMARKS.values():
        add_benchmark(commands, benchmark)
    add_startup(commands)
    return parser.parse_args()


def add_command(commands: argparse._SubParsersAction, name: str, text: str) -> argparse.ArgumentParser:
    """A command with the options that all of them share."""
    parser = commands.add_parser(
        name,
        help=text,
        description=f"Measure {text}." if name != "all" else f"Measure {text}, and write one table of all.",
        epilog=as_called(f"Example:\n\n  python tools/benchmark.py {name} --output output/benchmark\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="the smallest form: to see that it runs, not to measure")
    parser.add_argument("--threads", type=int, metavar="N", help="of PyTorch (default: its own choice)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/benchmark"),
        metavar="FOLDER",
        help="for <name>.json and <name>.md (default: %(default)s)",
    )
    return parser


def add_benchmark(commands: argparse._SubParsersAction, benchmark: Benchmark) -> None:
    """A command for one of the registered benchmarks."""
    parser = add_command(commands, benchmark.name, benchmark.text)
    for name, value in benchmark.defaults().items():
        option = benchmark.options[name]
        several = isinstance(value, tuple)
        shown = " ".join(value) if several else value
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=str if several else type(value),
            nargs="+" if several else None,
            choices=option.choices or None,
            metavar=None if option.choices else option.metavar,
            help=option.help + (f" (default: {shown})" if shown != "" else ""),
        )
    parser.set_defaults(run=run_one)


def add_startup(commands: argparse._SubParsersAction) -> None:
    """The command of the time to the first batch, which has options of its own."""
    text = "seconds to the first training batch, and memory of trainer and loader workers, on synthetic data"
    parser = commands.add_parser(
        "startup",
        help=text,
        description=f"Measure {text}.",
        epilog=as_called(STARTUP_EXAMPLE),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=82783, metavar="N", help="of the dataset (default: %(default)s)")
    parser.add_argument("--proposals", type=int, default=500, metavar="N", help="of each image (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="of the loader (default: %(default)s)")
    parser.add_argument(
        "--batches", type=int, default=10, metavar="N", help="read before memory is measured again (default: 10)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="where the data is made and kept (default: removed at the end)"
    )
    parser.add_argument(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="(default: configs/wsd_vgg16.yaml)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs for the configuration")
    parser.set_defaults(run=run_startup)


def run_startup(args: argparse.Namespace) -> None:
    """Measure the time to the first batch as the options say."""
    for name in ("images", "proposals"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: must be at least 1")
    for name in ("workers", "batches"):
        if getattr(args, name) < 0:
            raise InputError(f"--{name} {getattr(args, name)}: must not be negative")
    config_file = args.config_file or shipped_config("--config-file", "wsd_vgg16.yaml")
    with tempfile.TemporaryDirectory() as temporary:
        root = args.data or Path(temporary)
        write_synthetic_coco(root, args.images, args.proposals)
        report = measure_startup(root, config_file, args.opts, num_workers=args.workers, num_batches=args.batches)
    print(startup_table(report))
    if args.json:
        write_json(args.json, {"images": args.images, "proposals": args.proposals, **report})


def run_one(args: argparse.Namespace) -> None:
    """Run a registered benchmark, and write its report."""
    given = {name: getattr(args, name) for name in BENCHMARKS[args.command].options}
    report = run_benchmark(args.command, given, quick=args.quick, threads=args.threads)
    finish([report], args.output, args.command)


def run_all(args: argparse.Namespace) -> None:
    """Run the registered benchmarks one after the other, and write the report of each and one of all."""
    for benchmark in BENCHMARKS.values():
        benchmark.check()
    reports = []
    for name in BENCHMARKS:
        print(f"{name}: {BENCHMARKS[name].text}", flush=True)
        reports.append(run_benchmark(name, quick=args.quick, threads=args.threads))
        finish(reports[-1:], args.output, name)
    finish(reports, args.output, "all")


def finish(reports: list[Report], folder: Path, name: str) -> None:
    """Write a report, and print it."""
    write_reports(reports, folder, name)
    seconds = sum(report.seconds for report in reports)
    print(f"{table(reports)}\n{name}: {seconds:.0f} s; written to {folder / name}.json and .md\n", flush=True)


def main() -> None:
    """Run one benchmark, or all.

    Raises:
        InputError: an option or what it names is wrong.
    """
    args = parse_arguments()
    args.run(args)
