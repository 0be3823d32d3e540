"""Benchmarks of `mlickd benchmark`: speed and memory on synthetic images. The package does not contain them."""
