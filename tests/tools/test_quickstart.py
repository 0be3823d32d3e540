"""The quickstart through its command line, on a few images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_quickstart_leaves_table_curves_and_gallery(tiny_scenes: Path, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "tools" / "quickstart.py", "--train", "tiny_train", "--test", "tiny_test"]
    command += ["--seeds", "1,2", "--output", tmp_path / "out", "DATALOADER.NUM_WORKERS", "0"]
    command += ["SOLVER.MAX_ITER", "3", "KD.FEATURE.MAX_ITER", "3", "KD.PREDICTION.MAX_ITER", "3"]
    command += ["SOLVER.IMS_PER_BATCH", "4", "SOLVER.WARMUP_ITERS", "1"]
    # From another folder, as a user may.
    run = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr
    assert "difference to baseline" in run.stdout and "±" in run.stdout
    for name in ("comparison.md", "curves.png", "classes.png", "gallery/index.html", "gallery/plots.html"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert len(content["runs"]) == 6 and content["costs"]["teacher"]["milliseconds"] > 0
