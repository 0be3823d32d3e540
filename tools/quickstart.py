#!/usr/bin/env python
"""Run the whole method, from proposals to the gallery; the same as `mlickd quickstart`."""

from mlickd.cli.quickstart import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
