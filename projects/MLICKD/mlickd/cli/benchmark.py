"""Measure speed and memory on the CPU of this machine, and compare them with the usual alternatives."""

import sys

from mlickd.cli import command_line
from mlickd.errors import InputError


def main() -> None:
    """Run the benchmarks of the repository, which are not part of the package."""
    parent = command_line.REPOSITORY / "projects" / "MLICKD"
    if not (parent / "benchmarks").is_dir():
        raise InputError("benchmark: not in the installed package; clone the repository and run tools/benchmark.py")
    sys.path.insert(0, str(parent))
    from benchmarks.command import main as run_benchmarks

    run_benchmarks(__doc__)
