#!/usr/bin/env python
"""List the images and labels of a dataset, with a digest; the same as `mlickd dataset-manifest`."""

from mlickd.cli.dataset_manifest import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
