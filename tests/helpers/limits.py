"""Limits on the size of files and on the memory of a process."""

import multiprocessing
import resource
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

needs_limit = pytest.mark.skipif(sys.platform != "linux", reason="asks the system how large the process is")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit the size of each file in bytes. A larger file causes the same error as a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def in_little_memory(function: Callable[..., Any], *arguments: object, megabytes: int = 200) -> Any:
    """Call a function of a module in a process that may grow by a number of megabytes; return or raise its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as process:
        return process.submit(_limited, function, arguments, megabytes).result(120)


def _limited(function: Callable[..., Any], arguments: tuple, megabytes: int) -> Any:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + megabytes * 1_000_000,) * 2)
    return function(*arguments)
