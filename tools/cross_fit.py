#!/usr/bin/env python
"""Cache outputs of teachers for images they did not learn; the same as `mlickd cross-fit`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
