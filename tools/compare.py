#!/usr/bin/env python
"""Train by several methods and seeds, and write the table; the same as `mlickd compare`."""

from mlickd.cli.compare import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
