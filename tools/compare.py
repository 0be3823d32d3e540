#!/usr/bin/env python
"""Train several methods with several seeds, and tabulate; the same as `mlickd compare`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
