from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlickd.benchmarks.suite import BENCHMARKS
from mlickd.errors import run_tool

SCRIPT = Path(__file__).parents[2] / "tools" / "benchmark.py"
SMALL = ("--images", 70, "--proposals", 20, "--workers", 1, "--batches", 1)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The tool, called with these arguments."""
    specification = importlib.util.spec_from_file_location("benchmark", SCRIPT)
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)

    def call(*arguments: object) -> None:
        monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
        run_tool(tool.main)

    return call


def test_start_up_of_a_small_data_set(
    tmp_path: Path, run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["INPUT.SIZES_TRAIN", "(64,)", "SOLVER.IMS_PER_BATCH", 4]
    run("startup", *SMALL, "--data", tmp_path / "data", "--json", tmp_path / "out/startup.json", *options)
    out = capsys.readouterr().out
    for text in ("datasets", "first batch", "total", "cores"):
        assert text in out
    report = json.loads((tmp_path / "out/startup.json").read_text())
    assert report["images"] == 70 and report["proposals"] == 20
    phases = {"imports", "datasets", "checks", "loader", "first batch", "total"}
    assert report["seconds"].keys() == report["cpu_seconds"].keys() == phases
    total = report["seconds"].pop("total")
    assert total == pytest.approx(sum(report["seconds"].values()))
    if sys.platform == "linux":
        for moment in ("memory", "memory_later"):
            assert report[moment].keys() == {"trainer", "worker 1"}
            assert all(0 < values["Pss"] <= values["Rss"] for values in report[moment].values())
            assert report["peak"] >= report[moment]["trainer"]["Rss"] * 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", 0], "--images 0: must be at least 1"),
        (["--workers", -1], "--workers -1: must not be negative"),
        (["--data", "."], "holds something else than benchmark data"),
    ],
)
def test_bad_arguments_end_in_one_line(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str], arguments: list, message: str
) -> None:
    with pytest.raises(SystemExit) as end:
        run("startup", *arguments)
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and message in last


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_in_their_smallest_form(
    tmp_path: Path, run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torchmetrics")
    run("all", "--quick", "--output", tmp_path)
    out = capsys.readouterr().out
    combined = json.loads((tmp_path / "all.json").read_text())["benchmarks"]
    assert [report["benchmark"] for report in combined] == list(BENCHMARKS)
    markdown = (tmp_path / "all.md").read_text()
    for report in combined:
        name = report["benchmark"]
        assert json.loads((tmp_path / f"{name}.json").read_text()) == report
        assert report["command"].startswith(f"python tools/benchmark.py {name} ") and report["command"] in markdown
        for comparison in report["comparisons"]:
            for row in comparison["rows"]:
                # At these sizes a step may take no more memory than was free before.
                assert min(row["values"]) > 0 or "peak memory" in comparison["title"]
                assert row["lowest"] <= row["median"] <= row["highest"]
                assert f"{comparison['title']}: {row['name']}" in out and row["name"] in markdown
    rows = {report["benchmark"]: report["comparisons"] for report in combined}
    assert [row["name"] for row in rows["step"][0]["rows"]] == [
        "plain student",
        "stage 1, knowledge cache",
        "stage 2, knowledge cache",
        "stage 1, live teacher",
        "stage 2, live teacher",
    ]
    assert rows["memory"][0]["rows"][2]["name"] == "100 images"
    assert "of the peak" in rows["roofline"][1]["rows"][0]["details"]["GFLOP/s"]
    assert float(rows["inference"][-1]["rows"][1]["details"]["10^9 multiply-adds"]) > 0.5


def test_one_with_options(tmp_path: Path, run: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchmetrics")
    run("metrics", "--images", 50, "--classes", 4, "--repetitions", 2, "--output", tmp_path)
    assert "50 images, 4 classes: torchmetrics" in capsys.readouterr().out
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert "--images 50 --classes 4 --repetitions 2 --threads" in report["command"]
    assert [len(row["values"]) for row in report["comparisons"][0]["rows"]] == [2, 2, 2]
    (target,) = report["comparisons"][0]["targets"]
    assert target["row"] == "torchmetrics" and target["at_least"] == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["metrics", "--images", 0], "--images 0: give at least 1"),
        (["metrics", "--quick", "--threads", 0], "--threads 0: give at least 1"),
        (["proposals", "--quick", "--photos", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_bad_options_end_in_one_line(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list, message: str
) -> None:
    pytest.importorskip("torchmetrics")
    with pytest.raises(SystemExit) as end:
        run(*arguments, "--output", tmp_path)
    assert end.value.code == 2 and not list(tmp_path.iterdir())
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and message in last


def test_all_stops_before_any_work_where_a_package_is_missing(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("mlickd.benchmarks.registry.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as end:
        run("all", "--quick", "--output", tmp_path)
    captured = capsys.readouterr()
    assert end.value.code == 2 and not captured.out and "pip install -e .[bench]" in captured.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "python tools/benchmark.py all"),
        (("startup",), "python tools/benchmark.py startup --data"),
        *(((name,), f"python tools/benchmark.py {name} --output") for name in ("all", *BENCHMARKS)),
    ],
)
def test_help_has_an_example(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    with pytest.raises(SystemExit) as end:
        run(*arguments, "--help")
    assert end.value.code == 0 and text in capsys.readouterr().out


def test_the_loader_beside_that_of_detectron2(tmp_path: Path, run: Callable[..., None], tiny_scenes: Path) -> None:
    small = ("--size", 32, "--images", 8, "--workers", 1, "--repetitions", 2)
    run("loader", "--dataset", "tiny_train", *small, "--output", tmp_path)
    report = json.loads((tmp_path / "loader.json").read_text())
    assert [c["title"] for c in report["comparisons"]] == [
        f"tiny_train at 32 px, {where}" for where in ("one process", "1 workers")
    ]
    for comparison in report["comparisons"]:
        assert [row["name"].partition(",")[0] for row in comparison["rows"]] == ["Detectron2", "Detectron2", "mlickd"]
        assert all(len(row["values"]) == 2 for row in comparison["rows"])
        assert comparison["targets"][0]["ratio"] == pytest.approx(comparison["rows"][2]["ratio"])
