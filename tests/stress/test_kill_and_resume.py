"""The short form of the script: two kills of each kind of run, one of them within the writing of a checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helpers.run_kinds import KINDS

ROOT = Path(__file__).parents[2]


def test_killed_runs_of_all_kinds_end_bit_by_bit_as_whole_ones() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "tests" / "stress" / "kill_and_resume.py", "--kills", "2", "--workers", "1"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [row.strip("| ").split(" | ") for row in result.stdout.splitlines()[2:-1]]
    assert [row[0] for row in rows] == list(KINDS)
    for _, kills, within, _, equal in rows:
        assert kills == "2" and equal == "2 of 2" and within in ("0", "1", "2")
    assert sum(int(row[2]) for row in rows) > 0
