"""A run of a small student, and the files that it is exported to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from helpers.untrained_run import split_tiny_scenes, write_untrained_run
from mlickd.export.exporting import export_student
from mlickd.runs import load_run


@dataclass
class ExportedRun:
    """
    Attributes:
        root: of the datasets that it was trained on.
        run: its folder.
        onnx, pt2: what it was exported to.
    """

    root: Path
    run: Path
    onnx: Path
    pt2: Path


@pytest.fixture(scope="session")
def exported(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportedRun:
    """An untrained student of 20 classes and 32 px, and its files; to be left as they are."""
    folder = tmp_path_factory.mktemp("exported")
    root = split_tiny_scenes(tiny_scenes, folder / "datasets")
    files = ExportedRun(root, write_untrained_run(folder / "run"), folder / "student.onnx", folder / "student.pt2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root))
        export_student(str(files.run), [files.onnx, files.pt2])
    return files


@pytest.fixture
def photos() -> list[np.ndarray]:
    """Five decoded photos of different sizes."""
    generator = np.random.default_rng(1)
    sizes = [(32, 32), (41, 57), (64, 20), (32, 90), (100, 33)]
    return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture(scope="session")
def student(exported: ExportedRun):
    """The model of the run."""
    return load_run(str(exported.run))[1].cpu()
