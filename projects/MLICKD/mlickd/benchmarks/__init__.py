"""What the project costs in seconds and memory, measured on data that anyone can make again.

`mlickd.benchmarks.suite` has the benchmarks by name. It is not imported here, so that the process of `measure_startup`
loads what training loads and nothing else.
"""

from .loader import loader_table, measure_loader
from .machine import machine_line
from .startup import measure_startup, startup_table
from .synthetic import write_synthetic_coco

__all__ = [
    "loader_table",
    "machine_line",
    "measure_loader",
    "measure_startup",
    "startup_table",
    "write_synthetic_coco",
]
