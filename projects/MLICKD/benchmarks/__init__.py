"""Benchmarks of `mlickd benchmark`: speed and memory on drawn images. The package does not contain them."""
