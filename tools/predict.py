#!/usr/bin/env python
"""Predict the labels of any photos; the same as `mlickd predict`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
