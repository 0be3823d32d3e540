#!/usr/bin/env python
"""Check images, labels and proposals, and find duplicates; the same as `mlickd check-dataset`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
