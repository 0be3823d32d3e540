"""Command lines that leave what the real ones leave, at once: for tests of what runs them.

Metrics, scores and reports are those of the real evaluator, on scores that are drawn.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from mlickd.data import dataset_records
from mlickd.data.catalog import class_names
from mlickd.data.records import label_targets
from mlickd.evaluation import MultiLabelEvaluator
from mlickd.runs import data_record

TRAIN = """
import pathlib, shutil, sys
arguments = dict(zip(sys.argv[-2::-2], sys.argv[:0:-2]))
output, seed = pathlib.Path(arguments["OUTPUT_DIR"]), arguments["SEED"]
stage = sys.argv[sys.argv.index("--kd-stage") + 1] if "--kd-stage" in sys.argv else ""
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as file:
    file.write(f"{output.name}{'/' + stage if stage else ''} {seed}\\n")
if (here / f"fail {output.name} {seed}").exists():
    sys.exit("error: SOLVER.BASE_LR too high, loss is NaN")
folder = output / stage
folder.mkdir(parents=True, exist_ok=True)
(folder / "metrics.json").write_text('{"iteration": 19, "total_loss": 3.0}\\n{"iteration": 39, "total_loss": 2.0}\\n')
(folder / "student.pth").write_text(f"{output.name} {seed}")
(folder / "model_final.pth").write_text(f"{output.name} {seed}")
if stage != "feature":
    shutil.copytree(here / f"results {output.name} {seed}", folder, dirs_exist_ok=True)
"""
CACHE = """
import pathlib, sys
arguments = dict(zip(sys.argv[-2::-2], sys.argv[:0:-2]))
dataset = arguments["DATASETS.TRAIN"].strip("(),'")
header = pathlib.Path({header!r}.format(cache=arguments["KD.CACHE"], dataset=dataset))
header.parent.mkdir(parents=True, exist_ok=True)
header.touch()
"""


class QuickTools:
    """A folder with `train_net.py`, `cache_knowledge.py` and `generate_proposals.py`."""

    def __init__(self, folder: Path, test: str, header: str, proposals: Path):
        """
        Args:
            folder: of the tools.
            test: dataset whose labels the results are of.
            header: path of a cache's file, with places for `cache` and `dataset`.
            proposals: folder that making proposals leaves.
        """
        self.folder, self.test = folder, test
        folder.mkdir()
        (folder / "train_net.py").write_text(TRAIN)
        (folder / "cache_knowledge.py").write_text(CACHE.replace("{header!r}", repr(header)))
        make = f"import pathlib\np = pathlib.Path({str(proposals)!r})\np.mkdir(parents=True, exist_ok=True)\n"
        (folder / "generate_proposals.py").write_text(make)

    def add_results(self, method: str, seed: int, skill: float) -> dict:
        """What training a method with a seed is to leave; the better, the more skill. The report."""
        records = dataset_records(self.test)
        targets = label_targets(records, len(class_names(self.test)))
        noise = np.random.default_rng([seed, len(method)]).random(targets.shape)
        scores = torch.tensor(skill * (targets == 1) + (1 - skill) * noise, dtype=torch.float32)
        folder = self.folder / f"results {method} {seed}"
        source = {"data": data_record(self.test)}
        evaluator = MultiLabelEvaluator(self.test, provenance=source, output_dir=str(folder / "inference" / self.test))
        evaluator.process(records, [{"image_scores": of_image} for of_image in scores])
        results = evaluator.evaluate()
        (folder / "results.json").write_text(json.dumps(results))
        return json.loads((folder / "inference" / self.test / "multilabel_results.json").read_text())

    def fail(self, method: str, seed: int, fails: bool = True) -> None:
        """Let a training fail, or no longer."""
        mark = self.folder / f"fail {method} {seed}"
        mark.touch() if fails else mark.unlink()

    def calls(self) -> list[str]:
        """The trainings since the last call: method and stage, and seed; in alphabetical order."""
        path = self.folder / "calls"
        calls = sorted(path.read_text().splitlines()) if path.exists() else []
        path.unlink(missing_ok=True)
        return calls
