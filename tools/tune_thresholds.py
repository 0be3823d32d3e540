#!/usr/bin/env python
"""Choose a threshold for each class on held-out images; the same as `mlickd tune-thresholds`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
