#!/usr/bin/env python
"""Train or evaluate a teacher, a baseline or a distillation; the same as `mlickd train`."""

from mlickd.cli.train_net import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
