"""Memory that a step has freed is there for the next one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Counts the pages that the system has to hand out while 32 MB are taken, used and freed ten times, before and after. In
# a process of its own, because the C library cannot be told to forget.
COUNT_PAGES = """
import resource
import torch
from mlickd.engine.performance import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = pages()
assert keep_freed_memory()
pages()
print(default, pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries cannot be told")
def test_memory_that_was_freed_is_not_asked_of_the_system_again() -> None:
    process = subprocess.run([sys.executable, "-c", COUNT_PAGES], capture_output=True, text=True, check=True)
    default, kept = map(int, process.stdout.split())
    # Fewer than one for each tensor: pages so large that there is nothing to count.
    if default < 20:
        pytest.skip(f"the system hands out 320 MB in {default} pages")
    assert kept < default / 2
