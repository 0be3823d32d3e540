"""Benchmarks of `tools/benchmark.py`: speed and memory, measured on data that is drawn. Not part of the package."""
