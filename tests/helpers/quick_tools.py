"""Fast commands for tests of studies, which write the files of the real commands with random scores."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from mlickd.data import dataset_records
from mlickd.data.catalog import class_names
from mlickd.data.records import label_targets
from mlickd.evaluation import MultiLabelEvaluator
from mlickd.runs import data_record


def write_random_results(run: Path, test: str, skill: float, seed: object = 0) -> dict:
    """Write the results of a run on a test dataset with random scores, better with more skill, and return them."""
    records = dataset_records(test)
    targets = label_targets(records, len(class_names(test)))
    noise = np.random.default_rng(seed).random(targets.shape)
    scores = torch.tensor(skill * (targets == 1) + (1 - skill) * noise, dtype=torch.float32)
    source = {"data": data_record(test)}
    evaluator = MultiLabelEvaluator(test, provenance=source, output_dir=str(run / "inference" / test))
    evaluator.process(records, [{"image_scores": vector} for vector in scores])
    return evaluator.evaluate()


class QuickTools:
    """A program with the commands of a study, and a folder with its results on a test dataset.

    Attributes:
        program: value for ``mlickd.studies.jobs.PROGRAM``.
    """

    def __init__(self, folder: Path, test: str):
        self.folder, self.test = folder, test
        folder.mkdir()
        shutil.copy(Path(__file__).with_name("quick_program.py"), folder / "program.py")
        self.program = (sys.executable, str(folder / "program.py"))

    def add_results(self, method: str, seed: int, skill: float, test: str = "") -> dict:
        """Prepare the results of a method and a seed, better with more skill, and return the report."""
        test, folder = test or self.test, self.folder / f"results {method} {seed}"
        results = write_random_results(folder, test, skill, seed=[seed, len(method)])
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
