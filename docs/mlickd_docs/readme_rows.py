"""Rows of results in the README, from published comparisons.

A row whose first cell links to ``projects/MLICKD/results/NAME.json`` gets its other cells from this file. After adding
a row or changing a file, run ``python docs/mlickd_docs/readme_rows.py``.
"""

import json
import re
from pathlib import Path

from mlickd.evaluation.intervals import Spread

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^(\| \[[^\]]+\]\((projects/MLICKD/results/\w+\.json)\) \|).*$", re.MULTILINE)


def fill_rows(text: str) -> str:
    """Return the text of the README with the measured cells: mAP of each model, the gain and the number of seeds."""
    return _ROW.sub(lambda row: f"{row[1]} {' | '.join(_cells(ROOT / row[2]))} |", text)


def _cells(file: Path) -> list[str]:
    content = json.loads(file.read_text(encoding="utf-8"))
    models = [content["summary"][name]["mAP"] for name in ("teacher", "baseline", "distilled")]
    seeds = models[-1]["count"]
    gain = content["differences" if seeds > 1 else "differences_over_images"]["distilled"]["mAP"]
    return [*(f"{model['mean']:.1f}" for model in models), Spread(**gain).interval_text(), str(seeds)]


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(fill_rows(readme.read_text(encoding="utf-8")), encoding="utf-8")
