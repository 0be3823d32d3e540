#!/usr/bin/env python
"""Turn the scores of a teacher into probabilities; the same as `mlickd calibrate-teacher`."""

from mlickd.cli.calibrate_teacher import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
