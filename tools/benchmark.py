#!/usr/bin/env python
"""Measure speed and memory on this machine; the same as `mlickd benchmark`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
