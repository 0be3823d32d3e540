"""Fast commands for tests of studies, which write the files of the real commands with random scores."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from mlickd.data import dataset_records
from mlickd.data.catalog import class_names
from mlickd.data.records import label_targets
from mlickd.evaluation import MultiLabelEvaluator
from mlickd.runs import data_record

PROGRAM = """
import pathlib, shutil, sys
command = sys.argv.pop(1)
if command == "generate-proposals":
    sys.exit()
arguments = dict(zip(sys.argv[-2::-2], sys.argv[:0:-2]))
if command == "cache-knowledge":
    cache = pathlib.Path(arguments["KD.CACHE"])
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "shard").write_text(" ".join(sys.argv))
    sys.exit()
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


class QuickTools:
    """A program with the commands of a study, and a folder with its results on a test dataset.

    Attributes:
        program: value for ``mlickd.studies.jobs.PROGRAM``.
    """

    def __init__(self, folder: Path, test: str):
        self.folder, self.test = folder, test
        folder.mkdir()
        (folder / "program.py").write_text(PROGRAM)
        self.program = (sys.executable, str(folder / "program.py"))

    def add_results(self, method: str, seed: int, skill: float, test: str = "") -> dict:
        """Prepare the results of a method and a seed, better with more skill, and return the report."""
        test = test or self.test
        records = dataset_records(test)
        targets = label_targets(records, len(class_names(test)))
        noise = np.random.default_rng([seed, len(method)]).random(targets.shape)
        scores = torch.tensor(skill * (targets == 1) + (1 - skill) * noise, dtype=torch.float32)
        folder = self.folder / f"results {method} {seed}"
        source = {"data": data_record(test)}
        evaluator = MultiLabelEvaluator(test, provenance=source, output_dir=str(folder / "inference" / test))
        evaluator.process(records, [{"image_scores": vector} for vector in scores])
        results = evaluator.evaluate()
        (folder / "results.json").write_text(json.dumps(results))
        return json.loads((folder / "inference" / test / "multilabel_results.json").read_text())

    def fail(self, method: str, seed: int, fails: bool = True) -> None:
        """Let the training of a method and a seed fail, or succeed again."""
        mark = self.folder / f"fail {method} {seed}"
        mark.touch() if fails else mark.unlink()

    def calls(self) -> list[str]:
        """Return the trainings since the last call, such as "distilled/feature 1", in alphabetical order."""
        path = self.folder / "calls"
        calls = sorted(path.read_text().splitlines()) if path.exists() else []
        path.unlink(missing_ok=True)
        return calls
