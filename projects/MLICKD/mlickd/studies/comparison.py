"""Students by several methods with several seeds on one dataset: the jobs that train them, and their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from detectron2.config import CfgNode

from mlickd.data import proposals_path
from mlickd.data.catalog import class_names, dataset_records
from mlickd.data.parts import whole_name
from mlickd.distillation.teacher_config import DATASET
from mlickd.engine.setup import load_config
from mlickd.errors import InputError
from mlickd.files import require_file
from mlickd.runs import STUDENT_CHECKPOINT, multilabel_results, multilabel_results_path

from .jobs import Job
from .methods import DISTILLED, Method, group_by_cache

__all__ = ["Comparison", "Model", "same_labeled_images"]

# Keys that differ from run to run, and the options of the command that set them.
_OPTIONS = {
    "SEED": "--seeds",
    "OUTPUT_DIR": "--output",
    "KD.TEACHER.WEIGHTS": "--teacher",
    "KD.CACHE": "--output",
    "DATASETS.TRAIN": "--train",
    "DATASETS.TEST": "--test",
    "DATASETS.PROPOSALS.METHOD": "--proposals",
}


@dataclass(frozen=True)
class Model:
    """A teacher or a student of a comparison.

    Attributes:
        method: name of the method, or ``teacher``.
        seed: seed of the training; None for a teacher that was there before.
        folder: run that leaves the model.
        test: name of the test dataset.
        jobs: runs of the training, in order.
    """

    method: str
    seed: int | None
    folder: Path
    test: str
    jobs: Sequence[Job] = ()

    @cached_property
    def failure(self) -> str:
        """Why the last attempt failed, or empty."""
        return next((job.record()["failure"] for job in self.jobs if job.record().get("failure")), "")

    @cached_property
    def status(self) -> str:
        """``done``, ``failed`` or ``not run``. A model whose method, data or teacher has changed since is not run."""
        if self.jobs and not all(job.is_done() for job in self.jobs):
            return "failed" if self.failure else "not run"
        return "done"

    @cached_property
    def report(self) -> dict | None:
        """Results on the test dataset, see :class:`mlickd.evaluation.MultiLabelEvaluator`; None unless done."""
        return multilabel_results(self.report_path) if self.status == "done" else None

    @property
    def report_path(self) -> Path:
        """Path of :attr:`report`."""
        return multilabel_results_path(self.folder, self.test)

    @property
    def seconds(self) -> float | None:
        """Duration of the training; None if it is unknown because the training was interrupted."""
        seconds = [job.record().get("seconds") for job in self.jobs]
        return None if None in seconds or not seconds else sum(seconds)


@dataclass
class Comparison:
    """Methods by seeds, with one teacher for all seeds or one for each seed.

    Attributes:
        configs: folder with ``wsd.yaml``, ``cls.yaml`` and ``kd.yaml``.
        train, test: names of the datasets.
        folder: folder of all results; a student goes to ``seed<k>/<method>``.
        methods: methods of the students.
        seeds: seeds of the students. The first one is also the seed of a teacher that all students share.
        proposals: name of the method that makes proposals.
        options: ``KEY VALUE`` pairs for all runs.
        tools: folder of the command lines.
        teacher: folder of a finished teacher; None trains one.
        teacher_per_seed: train a teacher for each seed.
        models: the teachers and students.
    """

    configs: Path
    train: str
    test: str
    folder: Path
    methods: Sequence[Method]
    seeds: Sequence[int]
    proposals: str = "edge_boxes"
    options: Sequence[str] = ()
    tools: Path = Path("tools")
    teacher: Path | None = None
    teacher_per_seed: bool = False
    models: list[Model] = field(init=False)

    def __post_init__(self):
        # Absolute paths, so that the working folder does not matter.
        self.configs, self.folder, self.tools = self.configs.resolve(), self.folder.resolve(), self.tools.resolve()
        self.teacher = self.teacher and self.teacher.resolve()
        self._check()
        names = [self.train, self.test, *(whole_name(name) for method in self.methods for name in _unlabeled(method))]
        command = ["generate_proposals.py", "--method", self.proposals, "--dataset", *dict.fromkeys(names)]
        self._proposals = Job("proposals", self.folder, self._command(command), prepares=True)
        self.models = []
        teacher = None
        for seed in self.seeds:
            if seed == self.seeds[0] or self.teacher_per_seed:
                teacher = self._teacher(seed)
            caches = {
                method.name: self._cache(group, teacher) for group in group_by_cache(self.methods) for method in group
            }
            for method in self.methods:
                self.models.append(self._student(method, seed, teacher, caches.get(method.name)))

    def jobs(self) -> list[Job]:
        """Return all trainings."""
        return [job for model in self.models for job in model.jobs]

    def _check(self) -> None:
        """Check what would make runs useless, before any of them starts."""
        for key in self.options[::2]:
            if key in _OPTIONS:
                raise InputError(f"options: {key} differs from run to run; leave it out, and give {_OPTIONS[key]}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"--seeds {','.join(map(str, self.seeds))}: name at least one, and each once")
        if self.teacher and not (self.teacher / "model_final.pth").is_file():
            raise InputError(f"--teacher {self.teacher}: has no model_final.pth; name a finished teacher")
        configurations = {str(method.file): method.cfg for method in self.methods}
        if not self.teacher:
            path = str(self.configs / "wsd.yaml")
            configurations[path] = load_config(path, list(self.options))
        expected = {**_protocol(self.methods[0].cfg), "TOP_K": 3}
        for file, cfg in configurations.items():
            for key, value in _protocol(cfg).items():
                if value != expected[key]:
                    raise InputError(f"{file}: TEST.{key} is {value!r}; give {expected[key]!r}, as in all other runs")
        class_names(self.test)
        for method in self.methods:
            if not same_labeled_images(self._train(method), [self.train]):
                raise InputError(
                    f"{method.file}: DATASETS.TRAIN {method.train} has other images or labels than --train "
                    f"{self.train}; compare students of the same images"
                )
            for name in (*self._train(method), *_unlabeled(method)) if method.teacher else ():
                require_file(method.teacher.replace(DATASET, name), "KD.TEACHER.WEIGHTS", "train the teacher first")

    def _teacher(self, seed: int) -> Model:
        if self.teacher:
            teacher = Model("teacher", None, self.teacher, self.test)
            if teacher.report_path.is_file():
                self.models.append(teacher)
            return teacher
        name = f"seed{seed}/teacher" if self.teacher_per_seed else "teacher"
        proposals = [proposals_path(self.train, self.proposals)]
        job = self._training(name, self.configs / "wsd.yaml", seed, reads=proposals, after=[self._proposals])
        self.models.append(Model("teacher", seed, job.folder, self.test, [job]))
        return self.models[-1]

    def _cache(self, group: Sequence[Method], teacher: Model) -> Job | None:
        """The job that caches the knowledge for a group of methods; None if the methods name a cache."""
        if group[0].cache:
            return None
        names = [method.name for method in group]
        name = "knowledge" if DISTILLED in names else f"knowledge-{names[0]}"
        name = f"seed{teacher.seed}/{name}" if self.teacher_per_seed else name
        command = ["cache_knowledge.py", "--config-file", group[0].file, "--batch-size", 16]
        for method in group[1:]:
            command += ["--also-for", method.file]
        # What a teacher says is not random, so that all seeds share the cache of a teacher.
        options = [*self.options, *self._data(group[0])]
        paths = ["KD.TEACHER.WEIGHTS", self._weights(group[0], teacher), "KD.CACHE", self.folder / name]
        return Job(
            name,
            self.folder,
            self._command([*command, *options, *paths]),
            configs=[method.file for method in group],
            options=options,
            datasets=[*self._train(group[0]), *_unlabeled(group[0])],
            reads=self._sources(group[0], teacher),
            after=[self._proposals, *teacher.jobs],
            prepares=True,
        )

    def _student(self, method: Method, seed: int, teacher: Model, cache: Job | None) -> Model:
        name = f"seed{seed}/{method.name}"
        if not method.stages:
            jobs = [self._training(name, method.file, seed, method)]
            return Model(method.name, seed, jobs[0].folder, self.test, jobs)
        folder = cache.folder if cache else Path(method.cache).resolve()
        paths = ["KD.TEACHER.WEIGHTS", self._weights(method, teacher), "KD.CACHE", folder]
        reads, jobs = self._sources(method, teacher), []
        before = [*([cache] if cache else []), *(() if method.teacher else teacher.jobs)]
        for stage in method.stages:
            jobs.append(
                self._training(name, method.file, seed, method, stage, paths, reads=reads, after=[*before, *jobs])
            )
            reads = [*reads, jobs[-1].folder / jobs[-1].result]
        return Model(method.name, seed, jobs[-1].folder, self.test, jobs)

    def _training(
        self,
        name: str,
        config: Path,
        seed: int,
        method: Method | None = None,
        stage: str = "",
        paths: Sequence[str | Path] = (),
        **needs: Sequence,
    ) -> Job:
        command = ["train_net.py", "--config-file", config, *(["--kd-stage", stage] if stage else [])]
        options = [*self.options, *self._data(method), "SEED", str(seed)]
        return Job(
            f"{name}/{stage}" if stage else name,
            self.folder,
            self._command([*command, *options, "OUTPUT_DIR", self.folder / name, *paths]),
            # Stage 1 is not evaluated. It leaves the student that stage 2 starts from.
            result=STUDENT_CHECKPOINT if stage == "feature" else "results.json",
            configs=[config],
            options=[stage, *options],
            datasets=[*self._train(method), *_unlabeled(method), self.test],
            resumes=True,
            **needs,
        )

    def _train(self, method: Method | None) -> tuple[str, ...]:
        return method.train if method and method.train else (self.train,)

    def _data(self, method: Method | None) -> list[str]:
        data = ["DATASETS.TRAIN", str(self._train(method)), "DATASETS.TEST", f"('{self.test}',)"]
        return [*data, "DATASETS.PROPOSALS.METHOD", self.proposals]

    def _weights(self, method: Method, teacher: Model) -> str:
        return method.teacher or str(teacher.folder / "model_final.pth")

    def _sources(self, method: Method, teacher: Model) -> list[Path]:
        """Files that the knowledge of the teacher depends on: its checkpoints, and the proposals."""
        names = [*self._train(method), *_unlabeled(method)]
        weights = [Path(self._weights(method, teacher).replace(DATASET, name)) for name in names]
        return list(dict.fromkeys([*weights, *(proposals_path(name, self.proposals) for name in names)]))

    def _command(self, arguments: Sequence[object]) -> list[str]:
        tool, *others = map(str, arguments)
        return [str(self.tools / tool), *others]


def same_labeled_images(names: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether two lists of datasets have the same images, equally often, with the same labels by name."""
    return list(names) == list(others) or _labeled_images(names) == _labeled_images(others)


def _labeled_images(datasets: Sequence[str]) -> list[tuple[str, list[str]]]:
    images = []
    for dataset in datasets:
        names = class_names(dataset)
        for record in dataset_records(dataset, boxes=False):
            images.append((record["file_name"], sorted(names[label] for label in record["labels"])))
    return sorted(images)


def _protocol(cfg: CfgNode) -> dict:
    """The keys of ``TEST`` that make metrics comparable or not."""
    keys = ("THRESHOLD", "TOP_K", "AVERAGE_PRECISION", "CORRUPTION", "CORRUPTION_SEED")
    return {key: cfg.TEST[key] for key in keys}


def _unlabeled(method: Method | None) -> tuple[str, ...]:
    return tuple(method.cfg.DATASETS.UNLABELED) if method and method.stages else ()
