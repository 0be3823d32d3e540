#!/usr/bin/env python
"""Draw regions and predictions, and a gallery of them; the same as `mlickd visualize`."""

from mlickd.commands.visualize import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
