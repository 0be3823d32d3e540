#!/usr/bin/env python
"""Choose a threshold for each class on held-out images; the same as `mlickd tune-thresholds`."""

from mlickd.cli.tune_thresholds import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
