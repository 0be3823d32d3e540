#!/usr/bin/env python
"""Write the student of a finished run as one file; the same as `mlickd export`."""

from mlickd.cli.export_student import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
