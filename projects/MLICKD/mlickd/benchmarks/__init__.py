"""What the project costs in seconds and memory, measured on data that anyone can make again.

`mlickd.benchmarks.suite` has the benchmarks by name. It is not imported here, so that the process of `measure_startup`
loads what training loads and nothing else.
"""

from mlickd.runs import machine_line

from .startup import measure_startup, startup_table
from .synthetic import write_synthetic_coco

__all__ = [
    "machine_line",
    "measure_startup",
    "startup_table",
    "write_synthetic_coco",
]
