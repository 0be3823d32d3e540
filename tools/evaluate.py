#!/usr/bin/env python
"""Show scores of runs under each common convention; the same as `mlickd evaluate`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
