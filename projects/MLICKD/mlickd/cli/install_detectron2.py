"""Install Detectron2 into the environment of the Python that runs this file, unless it is installed.

The Python package index has Detectron2 only as a wheel with another name, tagged for Python 3.10. The wheel contains no
compiled code, so it works with every later Python. MLICKD does not need Detectron2's compiled operators. This file
imports only the standard library, so that it can be called by its path before anything is installed.
"""

import argparse
import importlib.util
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

# Detectron2 0.7 (upstream commit a59f0563). pyproject.toml lists its requirements: those in the wheel exclude versions
# that work.
REQUIREMENT = "sal-detectron2==0.7.2 --hash=sha256:491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"


def install_wheel() -> None:
    """Unpack the wheel into site-packages. With `--target`, pip and uv accept a wheel for another Python."""
    # An environment that uv has made does not have pip.
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else ["uv", "pip"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.txt")
        file.write_text(REQUIREMENT, encoding="utf-8")
        command = [*pip, "install", "--no-deps", "--require-hashes", "--only-binary=:all:", "--python-version=3.10"]
        target = sysconfig.get_paths()["purelib"]
        subprocess.run([*command, f"--target={target}", f"--requirement={file}"], check=True)
    importlib.invalidate_caches()


def main() -> None:
    """Install Detectron2, import it and print its version; exit with status 2 if that fails."""
    parser = argparse.ArgumentParser(description="Install Detectron2 into this environment, if it is missing there.")
    parser.parse_args()
    try:
        if importlib.util.find_spec("detectron2") is None:
            install_wheel()
        import detectron2.config
    except (subprocess.CalledProcessError, FileNotFoundError):
        parser.exit(2, "error: pip or uv could not install Detectron2; see the message above, or install pip\n")
    except Exception as error:  # a build for another torch can raise anything
        problem = f"Detectron2 is installed but cannot be imported ({type(error).__name__}: {error})"
        parser.exit(2, f"error: {problem}; install mlickd first, or uninstall Detectron2 and run this command again\n")
    print(f"Detectron2 {detectron2.__version__} in {Path(detectron2.__file__).parent}")


if __name__ == "__main__":
    main()
