#!/usr/bin/env python
"""Let teachers speak of photos that they have not seen; the same as `mlickd cross-fit`."""

from mlickd.cli.cross_fit import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
