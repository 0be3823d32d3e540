"""A request to stop that comes to the process which has started others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.process import BaseProcess

import pytest

from mlickd.engine.distributed.requests import RequestsToStop


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_request_that_comes_while_processes_are_started_is_passed_on(kind: signal.Signals) -> None:
    before = signal.getsignal(kind)

    def start() -> list[BaseProcess]:
        process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=[100])
        process.start()
        os.kill(os.getpid(), kind)
        return [process]

    with RequestsToStop() as requests:
        (process,) = requests.start(start)
        process.join(60)
    assert process.exitcode == -signal.SIGTERM
    assert requests.first == kind and signal.getsignal(kind) == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
