#!/usr/bin/env python
"""Generate the regions that the teacher scores; the same as `mlickd generate-proposals`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
