from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helpers.untrained_run import split_tiny_scenes, write_untrained_run
from mlickd.evaluation.thresholds import read_thresholds


@pytest.fixture
def run(
    tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call_tool: Callable[..., Any]
) -> Callable[..., Any]:
    """The tool, called with the run in `tmp_path` and these arguments."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(split_tiny_scenes(tiny_scenes, tmp_path / "datasets")))
    write_untrained_run(tmp_path / "run")
    return partial(call_tool, "tune_thresholds", "--run", tmp_path / "run")


def test_thresholds_are_shown_and_kept(run, tmp_path):
    result = run("--dataset", "tiny_val")
    assert result.status == 0
    tuned = read_thresholds(str(tmp_path / "run" / "thresholds.json"))
    assert f"{tuned.thresholds[0]:.3f}" in result.out
    assert result.out.endswith(f"thresholds.json in {tmp_path / 'run'}: tuned on tiny_val (16 images)\n")


def test_bad_input_is_one_line(run, tmp_path, call_tool):
    run("--dataset", "tiny_test").assert_ends_in_one_line("thresholds must not be tuned on test images")
    run("--dataset", "nothing_val").assert_ends_in_one_line("unknown dataset 'nothing_val'")
    call_tool("tune_thresholds", "--run", tmp_path, "--dataset", "tiny_val").assert_ends_in_one_line("no such file")
    assert not (tmp_path / "run" / "thresholds.json").exists()


def test_help_has_an_example(call_tool):
    result = call_tool("tune_thresholds", "--help")
    assert result.status == 0 and "python tools/tune_thresholds.py --run output/holiday/cls" in result.out
