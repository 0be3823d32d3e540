"""All benchmarks of `tools/benchmark.py`, in the order in which `all` runs them."""

from . import step, loading, wsddn, proposals, metrics, inference, export, growth, roofline  # noqa: F401, I001  each registers itself
from .registry import BENCHMARKS, Benchmark, Option, run_benchmark
from .report import Report, table, write_reports

__all__ = ["BENCHMARKS", "Benchmark", "Option", "Report", "run_benchmark", "table", "write_reports"]
