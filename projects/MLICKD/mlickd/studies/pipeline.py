"""The whole method as a row of command lines: proposals, teacher, its knowledge, and students by several methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlickd.data import proposals_path
from mlickd.data.parts import whole_name
from mlickd.distillation.teacher_config import DATASET
from mlickd.runs import STUDENT_CHECKPOINT

from .methods import BASELINE, DISTILLED, Method, choose_methods, group_by_cache
from .own_options import check_own_options
from .steps import Step, StepRunner, stopped_by_signals

__all__ = ["Pipeline"]

_TITLES = {BASELINE: "Baseline", DISTILLED: "Distilled student"}


@dataclass
class Pipeline:
    """Trains a teacher and students on one dataset with one seed.

    Every step is a command that a user could type; it is printed, its output goes to ``<folder>/logs``, and a step
    that has ended before is not run again.

    Attributes:
        configs: folder with ``wsd.yaml``, ``cls.yaml`` and ``kd.yaml``.
        train, test: names of the datasets.
        folder: where students go, each into one of its method's name.
        seed: of everything random.
        proposals: the method that makes them.
        options: ``KEY VALUE`` pairs for all steps.
        tools: folder of the command lines.
        methods: of the students; None: ``baseline`` and ``distilled``.
        teacher: folder of a finished teacher to use; None trains one.
        home: where the teacher and what it knows go, ``folder`` if not given: pipelines with one home share them. Of a
            teacher to use, it is the folder above.
        shared: where the log of the proposals goes, which hang on no seed; ``home`` if not given.
        teacher_seed: of the teacher, where it is not ``seed``.

    Raises:
        InputError: ``options`` have a key that is set for each run, such as the seed.
    """

    configs: Path
    train: str
    test: str
    folder: Path
    seed: int = 1
    proposals: str = "edge_boxes"
    options: Sequence[str] = ()
    tools: Path = Path("tools")
    methods: Sequence[Method] | None = None
    teacher: Path | None = None
    home: Path | None = None
    shared: Path | None = None
    teacher_seed: int | None = None

    def __post_init__(self):
        check_own_options(self.options)
        # In one spelling, from wherever it is called: a command that names its folder otherwise is the same command.
        for name in ("configs", "folder", "tools", "teacher", "home", "shared"):
            path = getattr(self, name)
            setattr(self, name, path and path.resolve())
        if self.methods is None:
            self.methods = choose_methods(self.configs, [BASELINE, DISTILLED], self.options)
        if self.home is None:
            # Of a teacher that all seeds share, there is one cache, made once.
            self.home = self.folder.parent if self.teacher else self.folder

    @property
    def teacher_folder(self) -> Path:
        """Of the teacher that students learn from."""
        return self.teacher or self.home / "teacher"

    def proposal_step(self) -> Step:
        """Proposals of both datasets; shared by all seeds, and quick where they are there already."""
        others = [name for method in self.methods for name in method.unlabeled]
        names = dict.fromkeys([self.train, self.test, *map(whole_name, others)])
        command = ["generate_proposals.py", "--dataset", *names, "--method", self.proposals]
        result = proposals_path(self.test, self.proposals)
        folder = self.shared or self.home
        return Step("proposals", "Proposals", self._tool(command), result, folder, datasets=list(names))

    def teacher_step(self) -> Step | None:
        """The training of the teacher; None where one is there."""
        if self.teacher:
            return None
        command = self._training(self.configs / "wsd.yaml", self.teacher_folder, seed=self.teacher_seed)
        return Step(
            "teacher",
            "Teacher",
            command,
            self.teacher_folder / "results.json",
            self.home,
            configs=[self.configs / "wsd.yaml"],
            reads=[proposals_path(self.train, self.proposals)],
            datasets=[self.train, self.test],
            makes=self.teacher_folder,
            resume=["--resume"],
            after=[self.proposal_step()],
        )

    def knowledge_steps(self) -> list[Step]:
        """What a teacher says of the training images, once for each group of methods that can share it; of one that
        has a cache of its own, nothing is left to do."""
        return [self._knowledge_step(group) for group in group_by_cache(self.methods) if not group[0].cache]

    def student_steps(self, method: Method) -> list[Step]:
        """The runs of a student, each from what the one before it left."""
        title = _TITLES.get(method.name, f"Student {method.name}")
        folder = self.folder / method.name
        if not method.stages:
            command = self._training(method.file, folder, train=method.train)
            return [self._student_step(method, method.name, title, command, folder, folder / "results.json")]
        group = next(group for group in group_by_cache(self.methods) if method in group)
        if method.cache:
            reads, after, regardless_of = [*self._teacher_files(method), *self._headers(group)], [], []
        else:
            knowledge = self._knowledge_step(group)
            reads, after = [*knowledge.reads], [knowledge]
            # What is in the cache follows from what is read, whatever other methods it was made for.
            regardless_of = [str(self._cache(group))]
        steps = []
        for stage in method.stages:
            # Stage 1 is not evaluated: what it leaves is the student that stage 2 starts from.
            result = folder / stage / (STUDENT_CHECKPOINT if stage == "feature" else "results.json")
            options = self._knowledge_options(group)
            command = self._training(method.file, folder, stage, options, train=method.train)
            name, of_stage = f"{method.name}/{stage}", f"{title}, stage {stage}"
            step = self._student_step(method, name, of_stage, command, folder / stage, result)
            steps.append(replace(step, reads=reads, regardless_of=regardless_of, after=after))
            reads, after = [*reads, result], steps[-1:]
        return steps

    def training_steps(self) -> list[Step]:
        """All steps behind the proposals, in order."""
        teacher = self.teacher_step()
        students = [step for method in self.methods for step in self.student_steps(method)]
        return [*([teacher] if teacher else []), *self.knowledge_steps(), *students]

    def run(self) -> dict[str, float]:
        """Run all steps.

        Returns:
            The seconds of each by name; of a step that was done before, those that it took then. Seeds that share a
            teacher all have the seconds of the one cache that they read.

        Raises:
            InputError: a step has failed.
        """
        runner = StepRunner()
        with stopped_by_signals():
            return {step.name: runner.run(step) for step in [self.proposal_step(), *self.training_steps()]}

    def _knowledge_step(self, group: Sequence[Method]) -> Step:
        command = ["cache_knowledge.py", "--config-file", str(group[0].file)]
        for method in group[1:]:
            command += ["--also-for", str(method.file)]
        # The same for all seeds: what a teacher says is not random.
        command += ["--batch-size", "16", *self._options(self._knowledge_options(group), group[0].train)]
        cache = self._cache(group)
        teacher = None if group[0].teacher else self.teacher_step()
        return Step(
            cache.name,
            "What the teacher says of the training images",
            self._tool(command),
            self._headers(group)[-1],
            self.home,
            configs=[method.file for method in group],
            reads=[*self._teacher_files(group[0]), *self._stored_proposals(group[0])],
            datasets=self._training_data(group[0]),
            makes=cache,
            after=[self.proposal_step(), *([teacher] if teacher else [])],
        )

    def _cache(self, group: Sequence[Method]) -> Path:
        """The folder of a group's cache; which other groups there are changes nothing about it."""
        if group[0].cache:
            return Path(group[0].cache)
        names = [method.name for method in group]
        return self.home / ("knowledge" if DISTILLED in names else f"knowledge-{names[0]}")

    def _headers(self, group: Sequence[Method]) -> list[Path]:
        """Return the folder of each dataset in a group's cache, in the order in which they are made."""
        names = self._training_data(group[0])
        return [self._cache(group) / name for name in names]

    def _training_data(self, method: Method) -> list[str]:
        return list(dict.fromkeys([*(method.train or [self.train]), *method.unlabeled]))

    def _teacher_weights(self, method: Method) -> str:
        return method.teacher or str(self.teacher_folder / "model_final.pth")

    def _teacher_files(self, method: Method) -> list[Path]:
        weights = self._teacher_weights(method)
        return [
            Path(file) for file in dict.fromkeys(weights.replace(DATASET, name) for name in self._training_data(method))
        ]

    def _knowledge_options(self, group: Sequence[Method]) -> list[str]:
        return ["KD.TEACHER.WEIGHTS", self._teacher_weights(group[0]), "KD.CACHE", str(self._cache(group))]

    def _student_step(
        self, method: Method, name: str, title: str, command: list[str], output: Path, result: Path
    ) -> Step:
        step = Step(name, title, command, result, self.folder, configs=[method.file])
        datasets = [*self._training_data(method), self.test]
        return replace(step, datasets=datasets, makes=output, resume=["--resume"])

    def _training(
        self,
        config: Path,
        output: Path,
        stage: str = "",
        options: Sequence[str] = (),
        seed: int | None = None,
        train: Sequence[str] = (),
    ) -> list[str]:
        command = ["train_net.py", "--config-file", str(config)]
        if stage:
            command += ["--kd-stage", stage]
        seed = self.seed if seed is None else seed
        return self._tool([*command, *self._options(["SEED", str(seed), "OUTPUT_DIR", str(output), *options], train)])

    def _options(self, options: Sequence[str], train: Sequence[str] = ()) -> list[str]:
        """What the user gives to all steps; behind it, so that it counts, what they share and what one adds to it."""
        data = ["DATASETS.TRAIN", str(tuple(train or [self.train])), "DATASETS.TEST", f"('{self.test}',)"]
        data += ["DATASETS.PROPOSALS.METHOD", self.proposals]
        return [*self.options, *data, *options]

    def _stored_proposals(self, method: Method) -> list[Path]:
        return list(dict.fromkeys(proposals_path(name, self.proposals) for name in self._training_data(method)))

    def _tool(self, command: Sequence[str]) -> list[str]:
        return [str(self.tools / command[0]), *command[1:]]
