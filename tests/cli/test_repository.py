from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlickd.cli import repository
from mlickd.errors import InputError

ROOT = Path(__file__).parents[2]


def test_in_the_repository_its_configurations_and_tools_are_taken() -> None:
    assert repository.shipped_config("--configs", "scenes") == ROOT / "configs" / "scenes"
    assert repository.scripts_folder() == ROOT / "tools"


def test_without_it_configurations_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(repository, "_REPOSITORY", tmp_path)
    with pytest.raises(InputError, match="--configs is missing: configs/scenes comes with the repository"):
        repository.shipped_config("--configs", "scenes")


@pytest.mark.parametrize("name", ["train_net", "generate_proposals", "cache_knowledge"])
def test_without_it_the_steps_of_a_pipeline_are_files_of_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(repository, "_REPOSITORY", tmp_path)
    command = [sys.executable, repository.scripts_folder() / f"{name}.py", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert shown.returncode == 0 and shown.stdout.startswith(f"usage: {name}.py"), shown.stderr
