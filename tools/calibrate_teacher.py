#!/usr/bin/env python
"""Turn the scores of a teacher into probabilities; the same as `mlickd calibrate-teacher`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
