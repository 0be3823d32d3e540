#!/usr/bin/env python
"""Train several methods with several seeds, and tabulate; the same as `mlickd compare`."""

from mlickd.cli.compare import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
