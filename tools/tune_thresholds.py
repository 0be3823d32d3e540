#!/usr/bin/env python
"""Choose the threshold of each class on held-out photos; the same as `mlickd tune-thresholds`."""

from mlickd.cli.tune_thresholds import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
