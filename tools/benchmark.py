#!/usr/bin/env python
"""Measure speed and memory on this machine; the same as `mlickd benchmark`."""

from mlickd.cli.benchmark import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
