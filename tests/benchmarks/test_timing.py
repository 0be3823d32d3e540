from __future__ import annotations

from collections.abc import Callable

import pytest

from mlickd.benchmarks.timing import interleaved


def test_calls_take_turns_and_the_warm_up_does_not_count() -> None:
    made = []
    calls = {name: (lambda name=name: made.append(name)) for name in "ab"}
    rows = interleaved(calls, 3, warm_up=2)
    assert made == ["a", "b"] * 5
    assert [row.name for row in rows] == ["a", "b"]
    assert all(len(row.values) == 3 for row in rows)


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Puts the clock of the measurement forward by some seconds."""
    clock = [0.0]
    monkeypatch.setattr("mlickd.benchmarks.timing.time.perf_counter", lambda: clock[0])

    def advance(seconds: float) -> None:
        clock[0] += seconds

    return advance


def test_a_slow_first_call_is_warm_up(takes: Callable[[float], None]) -> None:
    seconds = iter([9.0, 1.0, 2.0])
    (row,) = interleaved({"call": lambda: takes(next(seconds))}, 2)
    assert row.values == [1, 2]


def test_seconds_are_those_of_the_call(takes: Callable[[float], None]) -> None:
    rows = interleaved({"one": lambda: takes(1.0), "three": lambda: takes(3.0)}, 2, scale=1000)
    assert [row.values for row in rows] == [[1000, 1000], [3000, 3000]]
