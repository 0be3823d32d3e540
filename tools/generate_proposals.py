#!/usr/bin/env python
"""Generate the regions that the teacher scores; the same as `mlickd generate-proposals`."""

from mlickd.cli.generate_proposals import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
