#!/usr/bin/env python
"""Make the regions that the teacher looks at; the same as `mlickd generate-proposals`."""

from mlickd.cli.generate_proposals import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
