"""The benchmarks by name, and how one is run."""

from __future__ import annotations

import inspect
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from mlickd.errors import InputError

from .comparison import Comparison
from .report import Report

__all__ = ["BENCHMARKS", "Benchmark", "Option", "benchmark", "run_benchmark"]


@dataclass(frozen=True)
class Option:
    """A parameter of a benchmark that a user may give.

    Attributes:
        help: what it is.
        quick: its value in the smallest form of the benchmark; None: the default.
        choices: of a text; a parameter that takes several of them has a tuple as its default.
        minimum: of a number.
        metavar: what stands for its value in the help.
    """

    help: str
    quick: Any = None
    choices: Sequence[str] = ()
    minimum: int = 1
    metavar: str = "N"


@dataclass(frozen=True)
class Benchmark:
    """What `tools/benchmark.py` runs under a name.

    Attributes:
        name: of the subcommand.
        text: what it measures.
        measure: called with the options as keyword arguments; their defaults are those of its signature.
        options: by the name of the argument.
        packages: by the name that they are imported under, those that it needs and the project does not.
        extra: of the project, which installs them.
    """

    name: str
    text: str
    measure: Callable[..., list[Comparison]]
    options: Mapping[str, Option]
    packages: Sequence[str] = ()
    extra: str = "bench"

    def check(self) -> None:
        """Raises InputError where a package is missing."""
        for package in self.packages:
            if find_spec(package) is None:
                raise InputError(
                    f"{self.name}: needs the package {package}; install it with `pip install -e .[{self.extra}]`"
                )

    def defaults(self, *, quick: bool = False) -> dict[str, Any]:
        """The value of each option that is not given."""
        parameters = inspect.signature(self.measure).parameters
        values = {name: parameters[name].default for name in self.options}
        if quick:
            values |= {name: option.quick for name, option in self.options.items() if option.quick is not None}
        return values


BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(
    name: str, text: str, *, packages: Sequence[str] = (), extra: str = "bench", **options: Option
) -> Callable[[Callable], Callable]:
    """Register a function as a benchmark; see :class:`Benchmark` for the arguments."""

    def register(measure: Callable[..., list[Comparison]]) -> Callable[..., list[Comparison]]:
        if set(options) != set(inspect.signature(measure).parameters):
            raise ValueError(f"benchmark {name}: the options are not the arguments of {measure.__name__}")
        BENCHMARKS[name] = Benchmark(name, text, measure, options, packages, extra)
        return measure

    return register


def run_benchmark(
    name: str, given: Mapping[str, Any] | None = None, *, quick: bool = False, threads: int | None = None
) -> Report:
    """Run one benchmark.

    Args:
        name: in `BENCHMARKS`.
        given: the options that differ from the defaults; None counts as not given.
        quick: the other options take their smallest values: to see that it runs, not to measure.
        threads: of PyTorch; None leaves them as they are.

    Returns:
        What was measured, with the command that repeats it.

    Raises:
        InputError: an option is out of range, or a package or file is missing.
    """
    chosen = BENCHMARKS[name]
    chosen.check()
    values = chosen.defaults(quick=quick) | {key: value for key, value in (given or {}).items() if value is not None}
    for key, value in values.items():
        if isinstance(value, int) and value < chosen.options[key].minimum:
            raise InputError(f"--{key.replace('_', '-')} {value}: give at least {chosen.options[key].minimum}")
    if threads is not None:
        if threads < 1:
            raise InputError(f"--threads {threads}: give at least 1")
        torch.set_num_threads(threads)
    start = time.perf_counter()
    comparisons = chosen.measure(**values)
    seconds = time.perf_counter() - start
    threads = torch.get_num_threads()
    return Report(name, _command(chosen, values, threads), threads, comparisons, seconds)


def _command(chosen: Benchmark, values: Mapping[str, Any], threads: int) -> str:
    words = ["python", "tools/benchmark.py", chosen.name]
    defaults = chosen.defaults()
    for key, value in values.items():
        if value != defaults[key]:
            several = isinstance(value, (tuple, list))
            words += [f"--{key.replace('_', '-')}", *map(str, value if several else [value])]
    return shlex.join([*words, "--threads", str(threads)])
