"""Runs that predict: of a classifier and of a teacher that nobody has trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.untrained_run import split_tiny_scenes, write_untrained_run
from mlickd.studies.tuning import tune_thresholds


@pytest.fixture(scope="module")
def tuned_run(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run with thresholds that were tuned on `tiny_val`, and the scores that the evaluation left there."""
    root = split_tiny_scenes(tiny_scenes, tmp_path_factory.mktemp("split"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root))
        run = write_untrained_run(tmp_path_factory.mktemp("runs") / "student")
        tune_thresholds(str(run), "tiny_val")
        yield run
