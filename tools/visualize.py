#!/usr/bin/env python
"""Write a gallery of regions and predictions, and plots; the same as `mlickd visualize`."""

from mlickd.cli.visualize import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
