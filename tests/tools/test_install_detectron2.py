"""An environment's own Detectron2 is used as it is; nothing here installs anything."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "install_detectron2.py"


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An empty virtual environment without pip, so that an attempt to install fails."""
    venv.create(tmp_path / "environment", with_pip=False, symlinks=True)
    return tmp_path / "environment"


def add_detectron2(environment: Path, config: str = "", wheel: bool = False) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = environment / "lib" / version / "site-packages"
    package = site_packages / "detectron2"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "0.6+own"\n')
    (package / "config.py").write_text(config)
    if wheel:
        info = site_packages / "sal_detectron2-0.7.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sal-detectron2\nVersion: 0.7.2\n")
    return package


def run(environment: Path, *arguments: str) -> subprocess.CompletedProcess:
    python = environment / "bin" / "python"
    return subprocess.run([python, "-I", SCRIPT, *arguments], capture_output=True, text=True)


def test_own_build_is_left_as_it_is(environment: Path):
    package = add_detectron2(environment)
    before = {path.name: path.read_bytes() for path in package.iterdir()}
    result = run(environment)
    assert result.returncode == 0, result.stderr
    assert "0.6+own" in result.stdout
    assert {path.name: path.read_bytes() for path in package.glob("*.py")} == before


@pytest.mark.parametrize(("present", "wheel", "status"), [(True, False, 0), (True, True, 1), (False, False, 1)])
def test_own_build_is_told_from_the_wheel(environment: Path, present: bool, wheel: bool, status: int):
    if present:
        add_detectron2(environment, wheel=wheel)
    assert run(environment, "--own-build").returncode == status


def test_broken_build_is_one_line_of_error(environment: Path):
    add_detectron2(environment, config='raise ImportError("undefined symbol")')
    result = run(environment)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and "(ImportError: undefined symbol)" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_failed_install_is_reported(environment: Path):
    result = run(environment)
    assert result.returncode == 2
    assert "pip could not install Detectron2" in result.stderr
