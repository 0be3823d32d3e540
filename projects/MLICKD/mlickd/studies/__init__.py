"""Studies of several runs: comparisons and thresholds.

Only ``mlickd.cli`` imports this package.
"""
