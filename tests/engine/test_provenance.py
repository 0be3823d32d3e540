"""Where numbers come from."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import detectron2
import pytest
import torch

import mlickd
from mlickd import runs as provenance
from mlickd.config import default_config
from mlickd.data import class_names, dataset_records
from mlickd.data.manifest import make_manifest


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_data_configuration_code_and_time(tiny_scenes: Path) -> None:
    cfg = default_config()
    found = provenance.provenance(cfg, "tiny_test")
    manifest = make_manifest("tiny_test", dataset_records("tiny_test"), class_names("tiny_test"))
    assert found["data"] == {"name": "tiny_test", "images": 12, "sha256": manifest.digest()}
    assert found["config"] == {"sha256": hashlib.sha256(cfg.dump().encode()).hexdigest()}
    versions = found["versions"]
    assert versions.keys() == {"mlickd", "commit", "torch", "detectron2"}
    assert versions["mlickd"] == mlickd.__version__ and versions["torch"] == torch.__version__
    assert versions["detectron2"] == detectron2.__version__
    age = datetime.now(timezone.utc) - datetime.fromisoformat(found["date"])
    assert 0 <= age.total_seconds() < 60


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_a_checkout(tmp_path: Path) -> None:
    package = tmp_path / "checkout" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert provenance._commit(package) is None, "no checkout"
    git(package.parent, "init", "-q")
    assert provenance._commit(package) is None, "a package that somebody else's checkout does not track"
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-qm", "first")
    commit = git(package.parent, "rev-parse", "HEAD")
    assert provenance._commit(package) == commit
    (package / "__init__.py").write_text("changed = True")
    assert provenance._commit(package) == f"{commit}-dirty"


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance._commit(Path(mlickd.__file__).parent) is None
