#!/usr/bin/env python
"""Measure how many objects the proposals cover; the same as `mlickd evaluate-proposals`."""

from mlickd.cli.evaluate_proposals import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
