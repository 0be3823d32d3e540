#!/usr/bin/env python
"""List the images and labels of a dataset, with a digest; the same as `mlickd dataset-manifest`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
