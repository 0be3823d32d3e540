#!/usr/bin/env python
"""Convert proposals of other projects; the same as `mlickd convert-proposals`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
