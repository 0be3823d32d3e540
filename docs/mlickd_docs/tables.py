"""Tables of measured values in the README and in the pages.

``python docs/mlickd_docs/tables.py`` writes the present values of ``projects/MLICKD/results`` into all tables:

- the table after a comment such as ``<!-- results("dataset", scenes="`scenes`") -->`` or ``<!-- benchmark("...") -->``,
  up to the comment ``<!-- end -->``;
- each row of the README whose first cell links to ``projects/MLICKD/results/NAME.json``.
"""

import json
import re
from pathlib import Path

from tabulate import tabulate

from mlickd.evaluation.intervals import Summary

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "projects" / "MLICKD" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_TABLE = re.compile(r"^<!-- ((results|benchmark)\(.*?\)) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^(\| \[[^\]]+\]\(projects/MLICKD/results/(\w+)\.json\) \|).*$", re.MULTILINE)


def fill_tables(text: str) -> str:
    """Return Markdown with the measured values in its tables.

    Raises:
        LookupError: no row of the benchmark matches.
    """
    functions = {"results": results, "benchmark": benchmark}
    text = _TABLE.sub(lambda table: f"<!-- {table[1]} -->\n\n{eval(table[1], functions)}\n\n<!-- end -->", text)
    return _ROW.sub(lambda row: f"{row[1]} {' | '.join(_readme_cells(row[2]))} |", text)


def results(title: str, **studies: str) -> str:
    """Return one table for published comparisons, and their commands.

    Args:
        title: what differs between the comparisons.
        studies: text for each file ``projects/MLICKD/results/<name>.json``, by name.
    """
    rows, commands, keys = [], [], ("mAP", "CF1", "OF1")
    for name, text in studies.items():
        content = _read(name)
        commands.append(content["command"])
        differences = []
        for method, summary in content["summary"].items():
            seconds = [run["seconds"] for run in content["runs"] if run["method"] == method and run["seconds"]]
            minutes = {"minutes": f"{sum(seconds) / len(seconds) / 60:.0f}" if seconds else ""}
            rows.append({title: text, "": method} | {key: Summary(**summary[key]).text() for key in keys} | minutes)
            text = ""
            if gain := content["differences"].get(method):
                row = {key: Summary(**gain[key]).interval_text() for key in keys}
                over_photos = Summary(**content["differences_over_images"][method]["mAP"])
                row["mAP"] += f"; photos [{over_photos.low:+.1f}, {over_photos.high:+.1f}]"
                differences.append({title: "", "": f"{method} - baseline"} | row)
        rows += differences
    table = tabulate(rows, "keys", "github", disable_numparse=True)
    return "\n\n".join([table, *(f"```bash\n{command}\n```" for command in commands)])


def benchmark(pattern: str) -> str:
    """Return the rows of ``projects/MLICKD/results/benchmark.md`` whose candidate contains a regular expression."""
    lines = (RESULTS / "benchmark.md").read_text(encoding="utf-8").splitlines()
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    table = [row[1:5] for row in rows if re.search(pattern, row[1])]
    if not table:
        raise LookupError(f"benchmark: no row contains {pattern!r}")
    return tabulate(table, header[1:5], "github", disable_numparse=True)


def _readme_cells(name: str) -> list[str]:
    """Return mAP of teacher, baseline and distilled student, the gain and the number of seeds."""
    content = _read(name)
    models = [content["summary"][model]["mAP"] for model in ("teacher", "baseline", "distilled")]
    gain = Summary(**content["differences"]["distilled"]["mAP"])
    return [*(f"{model['mean']:.1f}" for model in models), gain.interval_text(), str(gain.count)]


def _read(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(fill_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
