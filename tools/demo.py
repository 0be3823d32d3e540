#!/usr/bin/env python
"""Show and correct the labels of photos in a browser; the same as `mlickd demo`."""

from mlickd.cli.demo import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
