#!/usr/bin/env python
"""Write a student as an ONNX file, and check it on photos; the same as `mlickd export`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
