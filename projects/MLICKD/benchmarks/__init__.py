"""Benchmarks of `tools/benchmark.py`: speed and memory on drawn data. They are not part of the package."""
