from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
import torch

from mlickd.benchmarks.comparison import Comparison, Row
from mlickd.benchmarks.registry import Option, benchmark, run_benchmark
from mlickd.benchmarks.suite import BENCHMARKS
from mlickd.errors import InputError


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def squares(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """A benchmark of this name; the arguments of each call."""
    calls = []
    monkeypatch.setattr("mlickd.benchmarks.registry.BENCHMARKS", dict(BENCHMARKS))

    @benchmark(
        "squares",
        "squares",
        most=Option("how many", quick=2, minimum=2),
        ways=Option("how", choices=("a", "b")),
        folder=Option("where"),
    )
    def measure(most: int = 10, ways: tuple[str, ...] = ("a", "b"), folder: str = "") -> list[Comparison]:
        calls.append({"most": most, "ways": ways, "folder": folder})
        return [Comparison("squares", "s", [Row("all", [1.0])])]

    return calls


def test_given_values_come_before_quick_ones_and_those_before_defaults(squares: list[dict]) -> None:
    run_benchmark("squares")
    run_benchmark("squares", {"most": None}, quick=True)
    run_benchmark("squares", {"most": 5}, quick=True)
    assert [call["most"] for call in squares] == [10, 2, 5]


def test_the_command_repeats_it(squares: list[dict], threads: None) -> None:
    report = run_benchmark("squares", {"ways": ["b"], "folder": "my photos"}, quick=True, threads=1)
    words = ["python", "tools/benchmark.py", "squares", "--most", "2", "--ways", "b", "--folder", "my photos"]
    assert shlex.split(report.command) == [*words, "--threads", "1"]
    assert report.threads == 1 == torch.get_num_threads()


@pytest.mark.parametrize(
    ("given", "number", "message"),
    [({"most": 1}, None, "--most 1: give at least 2"), ({}, 0, "--threads 0: give at least 1")],
)
def test_values_out_of_range(squares: list[dict], given: dict, number: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_benchmark("squares", given, threads=number)
    assert not squares


def test_options_are_the_arguments() -> None:
    with pytest.raises(ValueError, match="options are not the arguments"):
        benchmark("wrong", "", other=Option(""))(lambda most=1: [])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlickd.benchmarks.registry.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"metrics: needs the package torchmetrics; .*\[bench\]"):
        run_benchmark("metrics", quick=True)
