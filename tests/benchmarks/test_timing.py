from __future__ import annotations

import time

import pytest

from mlickd.benchmarks.timing import interleaved


def test_calls_take_turns_and_the_warm_up_does_not_count() -> None:
    made = []
    calls = {name: (lambda name=name: made.append(name)) for name in "ab"}
    rows = interleaved(calls, 3, warm_up=2)
    assert made == ["a", "b"] * 5
    assert [row.name for row in rows] == ["a", "b"]
    assert all(len(row.values) == 3 for row in rows)


def test_a_slow_first_call_is_warm_up() -> None:
    first = iter([0.2])

    def call() -> None:
        time.sleep(next(first, 0.0))

    (row,) = interleaved({"call": call}, 2)
    assert max(row.values) < 0.2


def test_seconds_are_those_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("mlickd.benchmarks.timing.time.perf_counter", lambda: clock[0])

    def takes(seconds: float) -> None:
        clock[0] += seconds

    rows = interleaved({"one": lambda: takes(1.0), "three": lambda: takes(3.0)}, 2, scale=1000)
    assert [row.values for row in rows] == [[1000, 1000], [3000, 3000]]
