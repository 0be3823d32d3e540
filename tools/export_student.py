#!/usr/bin/env python
"""Write a student as an ONNX file, and check it on photos; the same as `mlickd export`."""

from mlickd.cli.export_student import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
