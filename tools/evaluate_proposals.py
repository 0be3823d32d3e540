#!/usr/bin/env python
"""Measure how many objects the proposals cover; the same as `mlickd evaluate-proposals`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
