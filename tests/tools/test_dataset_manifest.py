from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def run(tiny_scenes: Path, call_tool: Callable[..., Any]) -> Callable[..., Any]:
    """The tool, called with these arguments."""
    return partial(call_tool, "dataset_manifest")


def test_write_and_check(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = run("tiny_test")
    assert written.status == 0 and "tiny_test.manifest: 12 images, sha256 " in written.out
    checked = run("tiny_test", "--check", "tiny_test.manifest")
    assert checked.status == 0 and "tiny_test is what tiny_test.manifest lists: 12 images" in checked.out
    other = run("tiny_train", "--check", "tiny_test.manifest")
    assert other.status == 1 and other.out.count("\n") == 1
    assert "tiny_train is not what tiny_test.manifest lists: image 'test_00000.jpg' is there and not here" in other.out
    assert "24 images here, 12 there" in other.out


def test_bad_input_is_one_line(run, tmp_path):
    run("tiny_test", "--check", tmp_path / "none").assert_ends_in_one_line("none: file not found")
    run("nothing_test", "--output", tmp_path / "m").assert_ends_in_one_line("unknown dataset 'nothing_test'")
    assert not (tmp_path / "m").exists()


def test_help_has_an_example(run):
    result = run("--help")
    assert result.status == 0 and "python tools/dataset_manifest.py nus_wide_test_multilabel --check" in result.out
