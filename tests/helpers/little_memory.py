"""Calls a function in a process with little memory."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

needs_limit = pytest.mark.skipif(sys.platform != "linux", reason="asks the system how large the process is")


def in_little_memory(function: Callable[..., Any], *arguments: object, megabytes: int = 200) -> Any:
    """Call a function of a module in a process that may grow by a number of megabytes; return or raise its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as process:
        return process.submit(_limited, function, arguments, megabytes).result(120)


def _limited(function: Callable[..., Any], arguments: tuple, megabytes: int) -> Any:
    import resource

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + megabytes * 1_000_000,) * 2)
    return function(*arguments)
