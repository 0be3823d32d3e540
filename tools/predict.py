#!/usr/bin/env python
"""Predict the labels of any photos; the same as `mlickd predict`."""

from mlickd.cli.predict import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
