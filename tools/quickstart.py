#!/usr/bin/env python
"""Run the whole method, from proposals to the gallery; the same as `mlickd quickstart`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
