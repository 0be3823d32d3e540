#!/usr/bin/env python
"""Show and correct the labels of photos in a browser; the same as `mlickd demo`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
