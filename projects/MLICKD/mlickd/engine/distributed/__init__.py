"""Runs in several processes: started by this project, by ``torchrun``, or on several machines."""

from .agreement import highest
from .launching import launch_processes
from .place import Place, is_loopback, torchrun_place
from .training import add_process_arguments, check_device, launch, num_processes

__all__ = [
    "Place",
    "add_process_arguments",
    "check_device",
    "highest",
    "is_loopback",
    "launch",
    "launch_processes",
    "num_processes",
    "torchrun_place",
]
