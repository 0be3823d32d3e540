"""The installation script keeps an existing Detectron2. The tests do not install anything."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "install_detectron2.py"


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Make a virtual environment without Detectron2 and pip, where an installation fails."""
    venv.create(tmp_path, with_pip=False, symlinks=True)
    return tmp_path


def add_detectron2(environment: Path, config: str = "") -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    package = environment / "lib" / version / "site-packages" / "detectron2"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "0.6+custom"\n')
    (package / "config.py").write_text(config)
    return package


def run(environment: Path) -> subprocess.CompletedProcess:
    python = environment / "bin" / "python"
    return subprocess.run([python, "-I", SCRIPT], env={"PATH": ""}, capture_output=True, text=True)


def test_a_custom_build_stays(environment: Path):
    package = add_detectron2(environment)
    before = {path.name: path.read_bytes() for path in package.iterdir()}
    result = run(environment)
    assert result.returncode == 0 and "0.6+custom" in result.stdout, result.stderr
    assert {path.name: path.read_bytes() for path in package.glob("*.py")} == before


def test_failures_are_reported(environment: Path):
    result = run(environment)
    assert result.returncode == 2 and "pip" in result.stderr
    add_detectron2(environment, config='raise ImportError("undefined symbol")')
    result = run(environment)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ") and "(ImportError: undefined symbol)" in result.stderr
