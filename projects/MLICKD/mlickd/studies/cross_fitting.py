"""Cross-fitted knowledge: what is said of each part of the photos comes from a teacher of the other parts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlickd.data import proposals_path
from mlickd.data.catalog import dataset_records
from mlickd.data.parts import Part, part_name
from mlickd.distillation.teacher_config import DATASET
from mlickd.engine.caching import config_value
from mlickd.engine.setup import load_config
from mlickd.errors import InputError

from .methods import write_method_file
from .steps import Step, StepRunner, stopped_by_signals

__all__ = ["CrossFitting"]


@dataclass
class CrossFitting:
    """Trains K teachers, each on all parts of a dataset but one, and keeps what each says of the part it has not seen.

    Every step is a command that a user could type; see :class:`mlickd.studies.steps.StepRunner`.

    Attributes:
        teacher_config: file of the teachers' configuration.
        kd_config: file of the distillation's.
        dataset: name of the dataset; may be a part itself.
        count: K, 2 or more.
        folder: where results go: ``teachers/<part>``, ``knowledge`` and ``logs``.
        options: ``KEY VALUE`` pairs for all steps.
        tools: folder of the command lines.
    """

    teacher_config: Path
    kd_config: Path
    dataset: str
    count: int
    folder: Path
    options: Sequence[str] = ()
    tools: Path = Path("tools")

    def __post_init__(self):
        # In one spelling, from wherever it is called: a command that names its folder otherwise is the same command.
        self.folder, self.tools = self.folder.resolve(), self.tools.resolve()
        # What a link is based on lies beside the link.
        self.teacher_config = self.teacher_config.parent.resolve() / self.teacher_config.name
        self.kd_config = self.kd_config.parent.resolve() / self.kd_config.name

    @property
    def parts(self) -> list[str]:
        """The names of the parts that knowledge is of."""
        return [part_name(Part(self.dataset, number, self.count)) for number in range(1, self.count + 1)]

    @property
    def student_options(self) -> list[str]:
        """``KEY VALUE`` pairs with which a student trains on the knowledge."""
        train = ",".join(f"'{part}'" for part in self.parts)
        weights = self._teacher(DATASET) / "model_final.pth"
        ours = ["DATASETS.TRAIN", f"({train})", "KD.TEACHER.WEIGHTS", str(weights), "KD.CACHE", str(self._cache)]
        return [*self.options, *ours]

    @property
    def method(self) -> Path:
        """Configuration of a student that trains on the knowledge; :meth:`run` writes it."""
        return self.folder / "kd.yaml"

    def check(self) -> None:
        """Find what would stop a step before the first one is run.

        Raises:
            InputError: a configuration, the dataset or the number of parts is wrong.
        """
        for file, architecture, option in (
            (self.teacher_config, "WeaklySupervisedDetector", "--config-file"),
            (self.kd_config, "DistilledClassifier", "--kd-config"),
        ):
            cfg = load_config(str(file), list(self.options))
            if cfg.MODEL.META_ARCHITECTURE != architecture:
                raise InputError(
                    f"{option} {file}: is of a {cfg.MODEL.META_ARCHITECTURE}; give the configuration of a "
                    f"{architecture}"
                )
            if cfg.DATASETS.PROPOSALS.TRAIN_FILES:
                raise InputError(
                    f"{option} {file}: DATASETS.PROPOSALS.TRAIN_FILES are of one list of datasets, and every step has "
                    "another; leave them empty, and name the proposals of the whole dataset by METHOD"
                )
        for part in self.parts:
            dataset_records(part, boxes=False)

    def steps(self) -> list[Step]:
        """Proposals, teachers and cache, in order."""
        proposals = self._proposal_step()
        teachers = [self._teacher_step(number, proposals) for number in range(1, self.count + 1)]
        return [proposals, *teachers, self._knowledge_step(proposals, teachers)]

    def run(self) -> None:
        """Run all steps that are not done, and write :attr:`method`.

        Raises:
            InputError: something given is wrong, or a step has failed.
        """
        self.check()
        runner = StepRunner()
        with stopped_by_signals():
            for step in self.steps():
                runner.run(step)
        cfg = load_config(str(self.kd_config), self.student_options)
        values = {key: config_value(cfg, key) for key in self.student_options[::2]}
        write_method_file(self.method, self.kd_config, values, "The student that learns from cross-fitted knowledge.")

    def _proposal_step(self) -> Step:
        method = self._method
        command = self._tool("generate_proposals.py", "--dataset", self.dataset, "--method", method)
        result = proposals_path(self.dataset, method)
        return Step("proposals", "Proposals", command, result, self.folder, datasets=[self.dataset])

    def _teacher_step(self, number: int, proposals: Step) -> Step:
        part = part_name(Part(self.dataset, number, self.count))
        others = part_name(Part(self.dataset, number, self.count, others=True))
        output = self._teacher(part)
        data = ["DATASETS.TRAIN", f"('{others}',)", "DATASETS.TEST", f"('{part}',)", "OUTPUT_DIR", str(output)]
        command = self._tool("train_net.py", "--config-file", str(self.teacher_config), *self.options, *data)
        return Step(
            f"teachers/{part}",
            f"Teacher {number} of {self.count}",
            command,
            output / "results.json",
            self.folder,
            configs=[self.teacher_config],
            reads=[proposals.result],
            datasets=[self.dataset],
            makes=output,
            resume=["--resume"],
            after=[proposals],
        )

    def _knowledge_step(self, proposals: Step, teachers: Sequence[Step]) -> Step:
        options = ["--config-file", str(self.kd_config), "--batch-size", "16"]
        return Step(
            "knowledge",
            "What each teacher says of the part that it has not seen",
            self._tool("cache_knowledge.py", *options, *self.student_options),
            self._cache / self.parts[-1],
            self.folder,
            configs=[self.kd_config],
            reads=[*(self._teacher(part) / "model_final.pth" for part in self.parts), proposals.result],
            datasets=[self.dataset],
            makes=self._cache,
            after=teachers,
        )

    @property
    def _method(self) -> str:
        return load_config(str(self.teacher_config), list(self.options)).DATASETS.PROPOSALS.METHOD

    @property
    def _cache(self) -> Path:
        return self.folder / "knowledge"

    def _teacher(self, part: str) -> Path:
        """The folder of the teacher that speaks of a part."""
        return self.folder / "teachers" / part

    def _tool(self, name: str, *arguments: str | os.PathLike[str]) -> list[str]:
        return [str(self.tools / name), *map(str, arguments)]
