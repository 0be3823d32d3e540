#!/usr/bin/env python
"""Train or evaluate a teacher, a baseline or a distilled student; the same as `mlickd train`."""

from mlickd.__main__ import run_script

if __name__ == "__main__":
    run_script(__file__)
