"""Install Detectron2 into the environment of the Python that runs this file, unless it is installed.

The Python package index has Detectron2 only as a wheel with another name, tagged for Python 3.10. The wheel contains no
compiled code, so it works with every later Python. MLICKD does not need Detectron2's compiled operators. The file
requirements-detectron2.txt has the version and the hash of the wheel.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path

WHEEL = "sal-detectron2"
REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements-detectron2.txt"


def has_custom_build() -> bool:
    """Return whether this environment has a Detectron2 other than the wheel."""
    if importlib.util.find_spec("detectron2") is None:
        return False
    try:
        importlib.metadata.version(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return True
    return False


def install_wheel() -> None:
    """Unpack the wheel into site-packages. With `--target`, pip accepts a wheel for another Python."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--implementation=cp", "--python-version=3.10"]
    command += ["--no-warn-conflicts", f"--requirement={REQUIREMENTS}"]
    command += [f"--target={sysconfig.get_paths()['purelib']}"]
    subprocess.run(command, check=True)
    importlib.invalidate_caches()


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Install Detectron2 into this environment, unless `import detectron2` works there.",
        epilog="Example: .venv/bin/python tools/install_detectron2.py",
    )
    parser.add_argument(
        "--custom-build",
        action="store_true",
        help="install nothing; exit with 0 if Detectron2 is installed from another source than the wheel, else with 1",
    )
    arguments = parser.parse_args()
    if arguments.custom_build:
        return 0 if has_custom_build() else 1

    if importlib.util.find_spec("detectron2") is None:
        try:
            install_wheel()
        except subprocess.CalledProcessError:
            print("error: pip could not install Detectron2; see its message above", file=sys.stderr)
            return 2
    try:
        importlib.import_module("detectron2.config")
    except Exception as error:  # a build for another torch can raise anything
        print(
            f"error: Detectron2 is installed but cannot be imported ({type(error).__name__}: {error}); "
            "run `pip install -e .` first, or uninstall it and run this command again",
            file=sys.stderr,
        )
        return 2
    detectron2 = sys.modules["detectron2"]
    print(f"Detectron2 {detectron2.__version__} in {Path(detectron2.__file__).parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
