"""Benchmarks through their command line."""

import json
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch

from benchmarks.command import BENCHMARKS
from benchmarks.gpu_check import RUNS, DeviceRuns
from mlickd.cli import benchmark


def test_startup_on_a_small_dataset(tmp_path: Path, call_tool: Callable) -> None:
    sizes = ("--images", 70, "--proposals", 20, "--workers", 1, "--batches", 1, "--data", tmp_path / "data")
    options = ("--options", "INPUT.SIZES_TRAIN", "(64,)", "SOLVER.IMS_PER_BATCH", 4)
    result = call_tool("benchmark", "startup", *sizes, "--output", tmp_path, *options)
    assert result.status == 0, result.err
    seconds, *memory = json.loads((tmp_path / "startup.json").read_text())["benchmarks"]["startup"]
    total = seconds["values"].pop("total")
    assert seconds["values"].keys() == {"imports", "datasets", "checks", "loader", "first batch"}
    assert sum(total) == pytest.approx(sum(sum(values) for values in seconds["values"].values()))
    if sys.platform == "linux":
        assert {"trainer", "worker 1"} < memory[0]["values"].keys()
    assert "first batch" in result.out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_benchmarks_run_quickly(tmp_path: Path, call_tool: Callable) -> None:
    pytest.importorskip("onnxruntime")
    result = call_tool("benchmark", "all", "--quick", "--output", tmp_path)
    assert result.status == 0, result.err
    results = json.loads((tmp_path / "all.json").read_text())["benchmarks"]
    assert list(results) == list(BENCHMARKS)
    assert all(min(v) > 0 for comparisons in results.values() for c in comparisons for v in c["values"].values())
    assert len(results["step"][0]["values"]) == 5 and list(results["memory"][0]["values"])[2] == "20 images"


def test_a_missing_package_is_named_before_any_work(call_tool: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.command.find_spec", lambda name: None)
    result = call_tool("benchmark", "all", "--quick")
    result.assert_ends_in_one_line("extra export")
    assert not result.out


def test_an_option_of_another_benchmark_is_refused(call_tool: Callable) -> None:
    call_tool("benchmark", "step", "--images", 3).assert_ends_in_one_line("step: has no --images")


def test_benchmarks_need_the_repository(call_tool: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmark, "__file__", str(tmp_path / "mlickd/cli/benchmark.py"))
    call_tool("benchmark", "all").assert_ends_in_one_line("clone the repository")


@pytest.mark.slow
def test_the_check_of_a_gpu_on_the_cpu(tmp_path: Path, call_tool: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "report.json"
    arguments = ("--device", "cpu", "--quick", "--iterations", 4, "--output", report)
    result = call_tool("gpu_check", *arguments)
    assert result.status == 0, result.err
    _, *rows = json.loads(report.read_text())["rows"]
    trained, resumed = rows[:-2], rows[-2:]
    assert [(row["run"], row["precision"]) for row in trained] == list(product(RUNS, ("float32", "bfloat16")))
    for row in trained:
        assert row["images/s"] > 0 and row["of matrix products"] > 0 and 0 < row["data and teacher"] < 1
        exact = row["precision"] == "float32"
        assert (row["gradient to CPU"] == row["loss to CPU"] == 0) if exact else 0 < row["gradient to CPU"] < 0.5
    assert all(row["resumed"] == row["repeated"] == 0 for row in resumed)

    monkeypatch.setattr(DeviceRuns, "train", lambda *_: {"images/s": 1.0})
    monkeypatch.setattr(DeviceRuns, "resume", lambda *_: 1 / 0)
    result = call_tool("gpu_check", *arguments)
    assert result.status == 1 and "ZeroDivisionError" in result.err
    assert ["problem" in row for row in json.loads(report.read_text())["rows"]] == 11 * [False] + 2 * [True]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_named(call_tool: Callable) -> None:
    call_tool("gpu_check", "--device", "cuda").assert_ends_in_one_line("--device cuda")
