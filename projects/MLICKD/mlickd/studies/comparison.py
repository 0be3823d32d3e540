"""Students by several methods with several seeds on one dataset, and what became of each."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from filelock import FileLock, Timeout

from mlickd.data.build import corruption_of, training_datasets
from mlickd.data.catalog import class_names
from mlickd.distillation.teacher_config import DATASET
from mlickd.engine.setup import load_config
from mlickd.errors import InputError
from mlickd.evaluation.metrics import protocol_record
from mlickd.evaluation.summary import METRICS
from mlickd.files import require_file
from mlickd.runs import data_record, multilabel_results, multilabel_results_path

from .labeled_photos import same_labeled_photos
from .methods import Method
from .own_options import check_own_options
from .pipeline import Pipeline
from .scheduling import run_steps
from .steps import Step, StepRunner

__all__ = ["Comparison", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What became of one student, or of a teacher.

    Attributes:
        name: of the method, or ``teacher``.
        seed: of its training; None of a teacher that was there.
        test: name of the dataset that it is judged on.
        steps: that train it; the last one leaves the model that counts.
        folder: of that model's results.
        seconds: of each step by name, those alone that were done in one go.
        failure: why the last try of one of its steps, or of one before them, has failed; empty where none has.
        changed: whether it would be trained again, for something that it hangs on has changed since.
        ran: how each step was run, by its name; see :class:`mlickd.studies.steps.StepState`.
        report: of :class:`mlickd.evaluation.MultiLabelEvaluator`; None without a model, and of one that has changed
            where making it again has failed.
    """

    name: str
    seed: int | None
    test: str
    steps: Sequence[Step]
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    failure: str = ""
    changed: bool = False
    ran: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    report: dict | None = None

    @property
    def status(self) -> str:
        """``done``, ``changed``, ``failed`` or ``not run``; only what is done counts."""
        if self.report is not None:
            return "changed" if self.changed else "done"
        return "failed" if self.failure else "not run"

    @property
    def folders(self) -> list[Path]:
        """Of its runs, in order, each with a ``metrics.json``."""
        return [step.makes for step in self.steps]

    @property
    def scores(self) -> Path:
        """``image_scores.npz`` of the test images."""
        return self.report_path.with_name("image_scores.npz")

    @property
    def report_path(self) -> Path:
        """``multilabel_results.json`` of the test images."""
        return multilabel_results_path(self.folder, self.test)


@dataclass
class Comparison:
    """Methods by seeds, with one teacher for all or one for each seed.

    Attributes:
        configs: folder with ``wsd.yaml`` and the methods, see :func:`mlickd.studies.methods.method_files`.
        train, test: names of the datasets.
        folder: of all results; a student goes to ``seed<k>/<method>``.
        methods: of the students.
        seeds: of the students. The first is also that of the one teacher.
        proposals: the method that makes them.
        options: ``KEY VALUE`` pairs for all steps.
        tools: folder of the command lines.
        teacher: folder of a finished teacher to use; None trains one.
        teacher_per_seed: train one for each seed.
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

    def __post_init__(self):
        self.configs, self.folder, self.tools = self.configs.resolve(), self.folder.resolve(), self.tools.resolve()
        self.teacher = self.teacher and self.teacher.resolve()

    def check(self) -> None:
        """See that what is compared can be, before any work is done.

        Raises:
            InputError: seeds, options, datasets, teacher or the protocol of evaluation are wrong.
        """
        check_own_options(self.options)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"--seeds {','.join(map(str, self.seeds))}: name at least one, and each once")
        if class_names(self.train) != class_names(self.test):
            raise InputError(f"--train {self.train}, --test {self.test}: they have different classes; name two splits")
        if self.teacher and not (self.teacher / "model_final.pth").is_file():
            raise InputError(f"--teacher {self.teacher}: there is no model_final.pth in it; name a finished teacher")
        configurations = {method.name: load_config(str(method.file), list(self.options)) for method in self.methods}
        for method in self.methods:
            self._check_method(method, configurations[method.name])
        teacher = load_config(str(self.configs / "wsd.yaml"), list(self.options))
        if not self.teacher:
            configurations["teacher"] = teacher
        protocols = {name: _protocol_options(cfg) for name, cfg in configurations.items()}
        first = self.methods[0].name
        for name, protocol in protocols.items():
            for key, value in protocol.items():
                if value != protocols[first][key]:
                    raise InputError(
                        f"TEST.{key}: {name} has {value!r}, {first} has {protocols[first][key]!r}; give one to all"
                    )
        if self.teacher:
            self._check_report_of_teacher(protocols[first])

    def _check_method(self, method: Method, cfg: CfgNode) -> None:
        if cfg.TEST.TOP_K != 3:
            raise InputError(f"{method.file}: TEST.TOP_K must be 3, as in the table of the paper; remove it")
        if method.train and not same_labeled_photos(method.train, [self.train]):
            raise InputError(
                f"{method.file}: DATASETS.TRAIN {method.train} are other photos or labels than those of --train "
                f"{self.train}; compare students of the same"
            )
        if method.teacher:
            cfg.DATASETS.TRAIN, cfg.KD.TEACHER.WEIGHTS = method.train or (self.train,), method.teacher
            for name in training_datasets(cfg):
                weights = method.teacher.replace(DATASET, name)
                require_file(weights, "KD.TEACHER.WEIGHTS", "train the teacher first, or give another path")
        if method.cache and not Path(method.cache).is_dir():
            raise InputError(f"{method.file}: KD.CACHE {method.cache}: no such folder; remove it, and one is made")

    def _check_report_of_teacher(self, options: dict) -> None:
        """See that the report of a teacher that is there, if it has one, can stand beside those of the students."""
        path = multilabel_results_path(self.teacher, self.test)
        if not path.is_file():
            return
        report = multilabel_results(path)
        protocol = protocol_record(options["THRESHOLD"], options["TOP_K"], options["AVERAGE_PRECISION"])
        if options["CORRUPTION"]:
            protocol["corruption"] = options["CORRUPTION"]
        for what, own, others in (
            ("another protocol", report.get("protocol"), protocol),
            ("other images, labels or classes", report.get("data"), data_record(self.test)),
        ):
            if own != others:
                raise InputError(
                    f"--teacher {self.teacher}: {path} is of {what} than the students will be; evaluate the teacher "
                    "again, or move the file away"
                )

    @cached_property
    def pipelines(self) -> dict[int, Pipeline]:
        """Of each seed."""
        return {
            seed: Pipeline(
                configs=self.configs,
                train=self.train,
                test=self.test,
                folder=self.folder / f"seed{seed}",
                seed=seed,
                proposals=self.proposals,
                options=self.options,
                tools=self.tools,
                methods=self.methods,
                teacher=self.teacher,
                shared=self.folder,
                home=self.folder / f"seed{seed}" if self.teacher_per_seed else self.folder,
                teacher_seed=seed if self.teacher_per_seed else self.seeds[0],
            )
            for seed in self.seeds
        }

    def steps(self) -> list[Step]:
        """All steps, those first that others wait for; of the students, all of a seed before the next seed."""
        first = self.pipelines[self.seeds[0]].proposal_step()
        teachers = [pipeline.teacher_step() for pipeline in self.pipelines.values()]
        knowledge = [step for pipeline in self.pipelines.values() for step in pipeline.knowledge_steps()]
        students = [
            step
            for pipeline in self.pipelines.values()
            for method in self.methods
            for step in pipeline.student_steps(method)
        ]
        steps = [first, *(step for step in teachers if step), *knowledge, *students]
        return list({step.key: step for step in steps}.values())

    def run(self, jobs: int = 1, threads: int = 0) -> None:
        """Run what has not ended well before.

        Args:
            jobs: commands at once.
            threads: of each command; 0: as the environment has it.

        Raises:
            InputError: another comparison is at work in the folder.
            KeyboardInterrupt: it was stopped.
        """
        with self._lock():
            run_steps(self.steps(), StepRunner(threads, bar=jobs == 1, at_once=jobs), jobs)

    def commands_to_run(self) -> list[str]:
        """The commands of all steps that have not ended well, in order, as typed into a shell."""
        runner = StepRunner()
        states = [(step, runner.state(step)) for step in self.steps()]
        steps = [step for step, state in states if state.seconds is None or state.changed]
        return [shlex.join(["python", *step.command]) for step in steps]

    def students(self) -> list[Outcome]:
        """What became of each student, method by method."""
        return [
            self._outcome(method.name, seed, pipeline.student_steps(method))
            for method in self.methods
            for seed, pipeline in self.pipelines.items()
        ]

    def teachers(self) -> list[Outcome]:
        """What became of each teacher; one that was there only where it was evaluated on the test images."""
        if self.teacher:
            path = multilabel_results_path(self.teacher, self.test)
            report = multilabel_results(path) if path.is_file() else None
            return [Outcome("teacher", None, self.test, [], self.teacher, report=report)] if report else []
        seeds = self.seeds if self.teacher_per_seed else self.seeds[:1]
        return [self._outcome("teacher", seed, [self.pipelines[seed].teacher_step()]) for seed in seeds]

    def _outcome(self, name: str, seed: int, steps: Sequence[Step]) -> Outcome:
        runner = StepRunner()
        states = {step.name: runner.state(step) for step in steps}
        folder = steps[-1].makes
        seconds = {
            step: state.seconds for step, state in states.items() if state.seconds is not None and not state.resumed
        }
        changed, failure = any(state.changed for state in states.values()), _failure(runner, steps[-1])
        ran = {step: state.ran for step, state in states.items() if state.ran}
        outcome = Outcome(name, seed, self.test, steps, folder, seconds, failure, changed, ran)
        if states[steps[-1].name].seconds is None or (changed and failure):
            return outcome
        report = multilabel_results(outcome.report_path)
        missing = [metric for metric in METRICS if report["metrics"].get(metric) is None]
        if missing:
            raise InputError(f"{outcome.report_path}: it has no {missing[0]}; give a --test with positive images")
        return replace(outcome, report=report)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout:
            raise InputError(f"--output {self.folder}: another comparison is at work there; wait for it") from None


def _protocol_options(cfg: CfgNode) -> dict:
    """What of ``TEST`` makes numbers of another kind."""
    options = {key: cfg.TEST[key] for key in ("THRESHOLD", "TOP_K", "AVERAGE_PRECISION")}
    corruption = str(corruption_of(cfg) or "")
    return {**options, "CORRUPTION": corruption, "CORRUPTION_SEED": corruption and cfg.TEST.CORRUPTION_SEED}


def _failure(runner: StepRunner, step: Step) -> str:
    """Why a step, or else one of those before it, has failed."""
    failure = runner.state(step).failure
    return failure or next(filter(None, (_failure(runner, before) for before in step.after)), "")
