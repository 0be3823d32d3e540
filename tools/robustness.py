#!/usr/bin/env python
"""Compare students on corrupted images, by size and class; the same as `mlickd robustness`."""

from mlickd.cli.robustness import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
