"""Commands on their page."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from mlickd.cli import COMMANDS
from mlickd_docs.commands import command_help

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["tune_thresholds", "install_detectron2"])
def test_help_is_what_the_script_prints(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    arguments = list(sys.argv)
    text = command_help(ROOT / "tools" / f"{name}.py")
    assert text.startswith(f"usage: {name}.py") and "--help" in text
    assert sys.argv == arguments and "COLUMNS" not in os.environ, "nothing of this process is changed"


def test_every_script_is_on_the_page() -> None:
    scripts = {path.stem for path in (ROOT / "tools").glob("*.py")}
    by_name = set(re.findall(r'command\("(\w+)"\)', PAGE))
    assert "{{ commands() }}" in PAGE
    assert scripts == {command.module for command in COMMANDS.values()} | by_name
