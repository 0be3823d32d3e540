#!/usr/bin/env python
"""Compare students on corrupted images, by size and class; the same as `mlickd robustness`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
