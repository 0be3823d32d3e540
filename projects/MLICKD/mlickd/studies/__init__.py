"""Studies of several runs: comparison, cross-fitting, calibration and thresholds.

Only ``mlickd.cli`` imports this package.
"""
