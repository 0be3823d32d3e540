#!/usr/bin/env python
"""Cache outputs of teachers for images they did not learn; the same as `mlickd cross-fit`."""

from mlickd.cli.cross_fit import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
