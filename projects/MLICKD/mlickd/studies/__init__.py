"""Studies of several runs: comparison, cross-fitting and thresholds.

Only ``mlickd.cli`` imports this package.
"""
