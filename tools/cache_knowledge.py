#!/usr/bin/env python
"""Store the teacher's outputs for all training images; the same as `mlickd cache-knowledge`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
