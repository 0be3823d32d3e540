"""Measure speed and memory on the CPU of this machine, and compare them with the usual alternatives."""

import sys
from pathlib import Path

from mlickd.errors import InputError


def main() -> None:
    """Run the benchmarks of the repository, which are not part of the package."""
    parent = Path(__file__).parents[2]  # projects/MLICKD in a checkout
    if not (parent / "benchmarks" / "command.py").is_file():
        raise InputError("benchmark: not in the installed package; clone the repository and run `pip install -e .`")
    sys.path.insert(0, str(parent))
    from benchmarks.command import main as run_benchmarks

    run_benchmarks(__doc__)
