#!/usr/bin/env python
"""Import proposals of other projects, or export them; the same as `mlickd convert-proposals`."""

from mlickd.cli.convert_proposals import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
