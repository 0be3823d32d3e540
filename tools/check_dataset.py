#!/usr/bin/env python
"""Check images, labels and proposals, and find copies; the same as `mlickd check-dataset`."""

from mlickd.cli.check_dataset import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
