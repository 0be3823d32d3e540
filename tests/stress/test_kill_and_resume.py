"""The script with three kills for each kind of run."""

import os
import subprocess
import sys
from pathlib import Path

from helpers.run_kinds import KINDS

ROOT = Path(__file__).parents[2]


def test_killed_runs_of_all_kinds_end_bit_by_bit_like_whole_runs() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "tests" / "stress" / "kill_and_resume.py", "--kills", "3"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [row.strip("| ").split(" | ") for row in result.stdout.splitlines()[2:-1]]
    assert [row[0] for row in rows] == list(KINDS)
    for _, runs, kills, *_, equal in rows:
        assert kills == "3" and equal == f"{runs} of {runs}"
    assert sum(int(row[3]) for row in rows) > 0 and sum(int(row[4]) for row in rows) > 0
