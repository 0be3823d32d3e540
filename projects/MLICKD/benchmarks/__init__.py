"""Benchmarks of `tools/benchmark.py`: speed and memory on drawn images. The package does not contain them."""
