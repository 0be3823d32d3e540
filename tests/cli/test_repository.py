from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlickd.cli import repository
from mlickd.errors import InputError

ROOT = Path(__file__).parents[2]


def test_the_repository_has_configurations_and_tools() -> None:
    assert repository.shipped_config("--configs", "scenes") == ROOT / "configs" / "scenes"
    assert repository.scripts_folder() == ROOT / "tools"


def test_an_installed_package_has_scripts_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(repository, "REPOSITORY", tmp_path)
    with pytest.raises(InputError, match="--configs.*configs/scenes"):
        repository.shipped_config("--configs", "scenes")
    command = [sys.executable, repository.scripts_folder() / "train_net.py", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0 and result.stdout.startswith("usage: train_net.py"), result.stderr
