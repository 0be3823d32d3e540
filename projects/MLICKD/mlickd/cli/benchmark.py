"""Measure speed and memory on this machine, next to what one would use or write instead; all on the CPU."""

from __future__ import annotations

import sys

from mlickd.cli.repository import benchmarks_parent


def main() -> None:
    """Run the benchmarks of the repository, which are not part of the package.

    Raises:
        InputError: the package is installed without the repository, or an option is wrong.
    """
    sys.path.insert(0, str(benchmarks_parent()))
    from benchmarks.command import main as run_benchmarks

    run_benchmarks(__doc__)
