from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from mlickd.errors import run_tool

SCRIPT = Path(__file__).parents[2] / "tools" / "dataset_manifest.py"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tiny_scenes: Path) -> Callable[..., int]:
    """The tool, called with these arguments; its exit status."""
    specification = importlib.util.spec_from_file_location("dataset_manifest", SCRIPT)
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)

    def call(*arguments: object) -> int:
        monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
        try:
            run_tool(tool.main)
        except SystemExit as end:
            return end.code
        return 0

    return call


def test_write_and_check(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("tiny_test") == 0
    assert "tiny_test.manifest: 12 images, sha256 " in capsys.readouterr().out
    assert run("tiny_test", "--check", "tiny_test.manifest") == 0
    assert "tiny_test is what tiny_test.manifest lists: 12 images" in capsys.readouterr().out
    assert run("tiny_train", "--check", "tiny_test.manifest") == 1
    out = capsys.readouterr().out
    assert "tiny_train is not what tiny_test.manifest lists: image 'test_00000.jpg' is there and not here" in out
    assert "24 images here, 12 there" in out and out.count("\n") == 1


def test_bad_input_is_one_line(run, tmp_path, capsys):
    assert run("tiny_test", "--check", tmp_path / "none") == 2
    assert run("nothing_test", "--output", tmp_path / "m") == 2
    assert not (tmp_path / "m").exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "none: file not found" in lines[0] and "unknown data set 'nothing_test'" in lines[1]


def test_help_has_an_example(run, capsys):
    assert run("--help") == 0
    assert "python tools/dataset_manifest.py nus_wide_test_multilabel --check" in capsys.readouterr().out
