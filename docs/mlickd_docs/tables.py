"""Tables of measured values in the README and in the pages.

``python docs/mlickd_docs/tables.py`` writes the present values of ``projects/MLICKD/results`` into all tables:

- the table after a comment such as ``<!-- overview(scenes="`scenes`") -->`` or ``<!-- benchmark("...") -->``, up to the
  comment ``<!-- end -->``;
- each row of the README whose first cell links to ``projects/MLICKD/results/NAME.json``;
- the whole page ``projects/MLICKD/results/README.md``.
"""

import json
import re
from pathlib import Path

from tabulate import tabulate

from mlickd.evaluation.intervals import Summary

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "projects" / "MLICKD" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_TABLE = re.compile(r"^<!-- ((overview|gains|benchmark)\(.*?\)) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^(\| \[[^\]]+\]\(projects/MLICKD/results/(\w+)\.json\) \|).*$", re.MULTILINE)
_KEYS = ("mAP", "CF1", "OF1")
_MODELS = ("teacher", "baseline", "distilled")


def fill_tables(text: str) -> str:
    """Return Markdown with the measured values in its tables.

    Raises:
        LookupError: no row of the benchmark matches, or no comparison has a method.
    """
    functions = {"overview": overview, "gains": gains, "benchmark": benchmark}
    text = _TABLE.sub(lambda table: f"<!-- {table[1]} -->\n\n{eval(table[1], functions)}\n\n<!-- end -->", text)
    return _ROW.sub(lambda row: f"{row[1]} {' | '.join(_readme_cells(row[2]))} |", text)


def overview(**studies: str) -> str:
    """Return a table of the distilled students of several comparisons.

    Args:
        studies: text for each file ``projects/MLICKD/results/<name>.json``, by name.
    """
    rows = []
    for name, text in studies.items():
        content = _read(name)
        row = {"labeled photos": f"[{text}](../projects/MLICKD/results/README.md#{name})"}
        row |= {model: Summary(**content["summary"][model]["mAP"]).text() for model in _MODELS}
        gain = content["differences"]["distilled"]
        row["gain in mAP"] = _gain(content, "distilled")
        row |= {f"gain in {key}": Summary(**gain[key]).interval_text() for key in _KEYS[1:]}
        rows.append(row)
    return _table(rows)


def gains(columns: dict[str, str], **methods: str) -> str:
    """Return a table of gains in mAP.

    Args:
        columns: by title, the names of comparisons; the first that has a method counts.
        methods: text for the row of each method, by name.
    """
    rows = []
    for method, text in methods.items():
        row = {"student": f"`{method}`{text}"}
        for title, names in columns.items():
            found = [content for content in map(_read, names.split()) if method in content["differences"]]
            if found:
                row[title] = _gain(found[0], method)
        if len(row) == 1:
            raise LookupError(f"gains: no comparison has {method!r}")
        rows.append(row)
    return _table(rows)


def all_comparisons() -> str:
    """Return the page with all values, the machines and the command of each comparison."""
    parts = [
        "# All comparisons",
        "Values are in percent: mean ± sample standard deviation over the seeds. Gains over the baseline are in "
        "points, with 95% intervals over pairs with the same seed (Student's t) and, in the column `over photos`, of "
        "mAP over resampled test photos. Minutes are the mean duration of a training, while other programs ran. "
        "`python docs/mlickd_docs/tables.py` writes this page from the JSON files next to it.",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        content, rows = _read(path.stem), []
        for method, summary in content["summary"].items():
            difference, row = content["differences"].get(method), {"": method}
            for key in _KEYS:
                row[key] = Summary(**summary[key]).text()
                row[f"gain in {key}"] = Summary(**difference[key]).interval_text() if difference else ""
                if key == "mAP":
                    row["over photos"] = _over_photos(content, method) if difference else ""
            seconds = [run["seconds"] for run in content["runs"] if run["method"] == method and run["seconds"]]
            row["minutes"] = f"{sum(seconds) / len(seconds) / 60:.0f}" if seconds else ""
            rows.append(row)
        machines = sorted({job["machine"] for run in content["runs"] for job in run["jobs"].values()})
        parts += [f"## {path.stem}", _table(rows), f"{'; '.join(machines)}:", f"```bash\n{content['command']}\n```"]
    return "\n\n".join(parts) + "\n"


def benchmark(pattern: str) -> str:
    """Return the rows of ``projects/MLICKD/results/benchmark.md`` whose candidate contains a regular expression."""
    lines = (RESULTS / "benchmark.md").read_text(encoding="utf-8").splitlines()
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    table = [row[1:5] for row in rows if re.search(pattern, row[1])]
    if not table:
        raise LookupError(f"benchmark: no row contains {pattern!r}")
    return _table(table, header[1:5])


def _readme_cells(name: str) -> list[str]:
    """Return mAP of teacher, baseline and distilled student, the gain and the number of seeds."""
    content = _read(name)
    gain = Summary(**content["differences"]["distilled"]["mAP"])
    means = [f"{content['summary'][model]['mAP']['mean']:.1f}" for model in _MODELS]
    return [*means, gain.interval_text(), str(gain.count)]


def _gain(content: dict, method: str) -> str:
    gain = Summary(**content["differences"][method]["mAP"]).interval_text()
    return f"{gain}; photos {_over_photos(content, method)}"


def _over_photos(content: dict, method: str) -> str:
    found = Summary(**content["differences_over_images"][method]["mAP"])
    return f"[{found.low:+.1f}, {found.high:+.1f}]"


def _table(rows: list, headers: list[str] | str = "keys") -> str:
    return tabulate(rows, headers, "github", disable_numparse=True)


def _read(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(fill_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
    (RESULTS / "README.md").write_text(all_comparisons(), encoding="utf-8")
