#!/usr/bin/env python
"""Install Detectron2, also before `mlickd` is installed; the same as `mlickd install-detectron2`."""

import runpy
from pathlib import Path

if __name__ == "__main__":
    package = Path(__file__).resolve().parents[1] / "projects" / "MLICKD" / "mlickd"
    runpy.run_path(str(package / "cli" / "install_detectron2.py"), run_name="__main__")
