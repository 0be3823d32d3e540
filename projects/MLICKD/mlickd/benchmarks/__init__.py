"""What the project costs in seconds and memory, measured on data that anyone can make again."""

from .machine import machine_line
from .startup import measure_startup, startup_table
from .synthetic import write_synthetic_coco

__all__ = ["machine_line", "measure_startup", "startup_table", "write_synthetic_coco"]
