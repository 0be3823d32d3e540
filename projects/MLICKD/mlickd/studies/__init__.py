"""Studies of several runs: comparison, cross-fitting, calibration, robustness and thresholds.

Only ``mlickd.cli`` imports this package.
"""
