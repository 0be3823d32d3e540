#!/usr/bin/env python
"""Show versions, devices and folders, for bug reports; the same as `mlickd env`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
