#!/usr/bin/env python
"""Show scores of runs under each common convention; the same as `mlickd evaluate`."""

from mlickd.cli.evaluate import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
