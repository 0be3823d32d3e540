"""Copies configs/ into the built package. pyproject.toml has all other settings."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Build the package with the shipped configurations; an editable installation finds them in the repository."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if not self.editable_mode:
            configs = Path(__file__).parent / "configs"
            shutil.copytree(configs, Path(self.build_lib, "mlickd", "configs"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigs})
