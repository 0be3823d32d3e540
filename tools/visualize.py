#!/usr/bin/env python
"""Write a gallery of regions and predictions, and plots; the same as `mlickd visualize`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
