"""A run of a small student, and its exported file."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.untrained_run import split_tiny_scenes, write_untrained_run
from mlickd.export.onnx_export import export_student


@dataclass
class ExportedRun:
    """A run, its exported file, and the root of its datasets."""

    root: Path
    run: Path
    onnx: Path


@pytest.fixture(scope="session")
def exported(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportedRun:
    """Export an untrained student with 20 classes and 32 px; tests must not change its files."""
    folder = tmp_path_factory.mktemp("exported")
    root = split_tiny_scenes(tiny_scenes, folder / "datasets")
    files = ExportedRun(root, write_untrained_run(folder / "run"), folder / "student.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root))
        export_student(files.run, files.onnx)
    return files


@pytest.fixture
def data_root(exported: ExportedRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the datasets of the student the registered datasets, and return their root."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(exported.root))
    return exported.root
