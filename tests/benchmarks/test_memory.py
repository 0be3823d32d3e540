from __future__ import annotations

import os
import sys

import pytest

from mlickd.benchmarks.memory import own_memory, peak_memory, resident_memory, resident_together


def test_files_count_once_and_own_memory_for_each() -> None:
    trainer = {"Rss": 100, "Anonymous": 50, "Pss_Anon": 40, "Pss_Shmem": 5}
    worker = {"Rss": 70, "Anonymous": 30, "Pss_Anon": 20, "Pss_Shmem": 0}
    trainer["Pss"] = worker["Pss"] = 0  # what other programs share does not matter
    assert own_memory([trainer, worker]) == 65
    assert resident_together([trainer, worker]) == 65 + 45


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_of_this_process() -> None:
    memory = resident_memory(os.getpid())
    assert 0 < own_memory([memory]) < resident_together([memory]) <= memory["Rss"]
    assert peak_memory(os.getpid()) >= 0.9 * memory["Rss"]
