#!/usr/bin/env python
"""Store the teacher's outputs for all training images; the same as `mlickd cache-knowledge`."""

from mlickd.cli.cache_knowledge import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
