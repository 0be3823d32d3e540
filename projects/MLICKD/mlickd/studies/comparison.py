"""Students of several methods and seeds on one dataset: the jobs that train them, and their results."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from mlickd.data import proposals_path
from mlickd.data.build import count_training_images, model_class
from mlickd.data.catalog import check_run_classes, class_names, dataset_records
from mlickd.data.parts import part_for_seed, whole_name
from mlickd.engine.input_checks import check_unlabeled
from mlickd.errors import InputError
from mlickd.evaluation.intervals import Summary, bootstrap_metrics, percentile_interval
from mlickd.evaluation.score_files import REPORT_FILE, SCORES_FILE, read_scores, results_folder
from mlickd.files import require_file
from mlickd.runs import STUDENT_CHECKPOINT, data_record, read_report, run_config

from .jobs import Job, proposal_jobs
from .training_methods import DISTILLED, TEACHER, Method

# Keys of TEST that must be equal in all runs.
_PROTOCOL = ("THRESHOLD", "AVERAGE_PRECISION")


@dataclass(frozen=True)
class TrainedModel:
    """A teacher or a student of a comparison.

    Attributes:
        method: name of the method, or ``teacher``.
        seed: seed of the training; None for a given teacher.
        folder: folder of the last run.
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
        """Reason why the last attempt failed, or empty."""
        return next((failure for job in self.jobs if (failure := job.record().get("failure"))), "")

    @cached_property
    def status(self) -> str:
        """``done``, ``failed`` or ``not run``."""
        if self.jobs and not all(job.is_done() for job in self.jobs):
            return "failed" if self.failure else "not run"
        return "done"

    @cached_property
    def report(self) -> dict | None:
        """Results on the test dataset, see :class:`mlickd.evaluation.MultiLabelEvaluator`; None unless done."""
        return read_report(self.report_path) if self.status == "done" else None

    @property
    def report_path(self) -> Path:
        """Path of :attr:`report`. A given teacher may have been evaluated after its training."""
        results = self.folder / "inference" / self.test if self.jobs else results_folder(self.folder, self.test)
        return results / REPORT_FILE

    @cached_property
    def resampled(self) -> np.ndarray:
        """mAP on resampled images of the test dataset, (B,) in percent."""
        scores = read_scores(str(self.report_path.with_name(SCORES_FILE)))
        order = np.argsort(scores.image_ids)  # so that all models have the same images in each resample
        arrays, ap = (scores.scores[order], scores.targets[order]), self.report["protocol"]["ap"]
        return 100 * bootstrap_metrics(*arrays, ap=ap, only_ap=True)["mAP"]

    @property
    def seconds(self) -> float | None:
        """Duration of the training; None if it is unknown because the training was interrupted."""
        seconds = [job.record().get("seconds") for job in self.jobs]
        return None if None in seconds or not seconds else sum(seconds)


@dataclass
class Comparison:
    """A student for each method and seed, with one teacher for all seeds or one for each seed.

    Attributes:
        teacher_method: training of the teacher; not used if ``teacher`` is given.
        methods: methods of the students. With a teacher for each seed, names of datasets may contain ``{seed}``.
        test: name of the test dataset.
        held_out: name of a dataset from which no model learns, to choose a student; may be empty.
        folder: folder of all results; a student goes to ``seed<k>/<method>``.
        seeds: seeds of the students. A teacher that all students share has the first seed.
        proposals: name of the proposal method.
        options: ``KEY VALUE`` pairs for all runs.
        teacher: folder of a finished teacher; None trains one.
        teacher_per_seed: train a teacher for each seed.
        models: the teachers and students.
        iterations: iterations of each run of the first seed, by method.
    """

    teacher_method: Method
    methods: Sequence[Method]
    test: str
    folder: Path
    seeds: Sequence[int]
    held_out: str = ""
    proposals: str = "edge_boxes"
    options: Sequence[str] = ()
    teacher: Path | None = None
    teacher_per_seed: bool = False
    models: list[TrainedModel] = field(init=False)
    iterations: dict[str, list[int]] = field(init=False)

    def __post_init__(self):
        # Absolute paths do not depend on the working folder.
        self.folder = self.folder.resolve()
        self.teacher = self.teacher and self.teacher.resolve()
        self._check()
        by_seed = {seed: self._methods(seed) for seed in self.seeds}
        self.iterations = {method.name: method.iterations for method in by_seed[self.seeds[0]]}
        names = [name for methods in by_seed.values() for method in methods for name in method.datasets]
        names = [whole_name(name) for name in (*self._test_datasets(self.seeds[0]), *names)]
        arguments = (self.folder, names, self.proposals, self._given_proposals())
        self._proposals, self._proposal_jobs = proposal_jobs(*arguments)
        self.models, teacher = [], None
        for seed, methods in by_seed.items():
            if teacher is None or self.teacher_per_seed:
                teacher = self._teacher(seed)
            sharing: dict[str, list[Method]] = {}
            for method in methods:
                sharing.setdefault(method.cache_key, []).append(method)
            self.models += [self._student(method, seed, teacher, sharing[method.cache_key]) for method in methods]

    @property
    def train(self) -> str:
        """Name of the training dataset."""
        return self.teacher_method.cfg.DATASETS.TRAIN[0]

    def jobs(self) -> list[Job]:
        """Return all trainings."""
        return [job for model in self.models for job in model.jobs]

    def _check(self) -> None:
        """Check the conditions of a comparison before any run starts."""
        if len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"--seeds {','.join(map(str, self.seeds))}: give each seed once")
        if self.teacher:
            require_file(str(self.teacher / "model_final.pth"), "--teacher", "name a finished teacher")
            teacher_cfg = run_config(self.teacher)
            if not model_class(teacher_cfg).is_detector:
                raise InputError(f"--teacher {self.teacher}: is a student; name the OUTPUT_DIR of a teacher")
            check_run_classes(teacher_cfg.MODEL.WEIGHTS, "--teacher", part_for_seed(self.train, self.seeds[0]))
            known = teacher_cfg.DATASETS.PROPOSALS
            if known.METHOD != self.proposals and not known.TRAIN_FILES:
                remedy = f"give --proposals {known.METHOD}"
                raise InputError(f"--proposals {self.proposals}: --teacher has learned from {known.METHOD}; {remedy}")
        expected = {key: self.methods[0].cfg.TEST[key] for key in _PROTOCOL}
        for method in (*self.methods, *(() if self.teacher else (self.teacher_method,))):
            for key, value in expected.items():
                if method.cfg.TEST[key] != value:
                    raise InputError(
                        f"{method.files[-1]}: TEST.{key} is {method.cfg.TEST[key]!r}; all runs need {value!r}"
                    )
            for seed in self.seeds:
                self._check_data(method.for_seed(seed), seed)
            if method.for_seed(0).cfg != method.cfg and not self.teacher_per_seed:
                advice = "leave out --teacher" if self.teacher else "give --teacher-per-seed"
                raise InputError(f"{{seed}} in the datasets or the teacher of {method.name}: {advice}")

    def _check_data(self, method: Method, seed: int) -> None:
        """Check that the datasets of a method exist, have the teacher's labeled images, and no held-out images."""
        expected = self.teacher_method.for_seed(seed).cfg.DATASETS.TRAIN
        train, settings = method.cfg.DATASETS.TRAIN, method.cfg.KD
        if not same_labeled_images(train, expected):
            raise InputError(
                f"{method.files[-1]}: DATASETS.TRAIN {train} has other images or labels than {', '.join(expected)}; "
                f"compare students of the same images{', or give --held-out 0' if self.held_out else ''}"
            )
        for name in method.datasets:
            class_names(name)
        if settings.TEACHER.WEIGHTS:
            require_file(settings.TEACHER.WEIGHTS, "KD.TEACHER.WEIGHTS", "train the teacher first")
        if settings.CACHE and not Path(settings.CACHE).is_dir():
            raise InputError(f"{method.files[-1]}: KD.CACHE {settings.CACHE}: no such folder; make the cache first")
        check_unlabeled(method.cfg)
        if not self.held_out:
            return
        held_out = part_for_seed(self.held_out, seed)
        labels = {record["file_name"]: record["labels"] for record in dataset_records(held_out, boxes=False)}
        if not any(labels.values()):
            raise InputError(f"{held_out}: no label to choose a student; give --held-out 0")
        for name in method.cfg.DATASETS.UNLABELED:
            if any(record["file_name"] in labels for record in dataset_records(name, boxes=False)):
                raise InputError(f"--unlabeled {name}: has held-out images; leave them out, or give --held-out 0")

    def _methods(self, seed: int) -> list[Method]:
        """Return the methods of a seed. All have the number of iterations for the method with the most images."""
        methods = [method.for_seed(seed) for method in self.methods]
        images = max(count_training_images(method.cfg) for method in methods)
        return [method.for_images(images) for method in methods]

    def _teacher(self, seed: int) -> TrainedModel:
        if self.teacher:
            teacher = TrainedModel(TEACHER, None, self.teacher, self.test)
            if teacher.report_path.is_file():
                self._check_protocol(teacher)
                self.models.append(teacher)
            return teacher
        name, method = f"seed{seed}/{TEACHER}" if self.teacher_per_seed else TEACHER, self.teacher_method.for_seed(seed)
        method = method.for_images(count_training_images(method.cfg))
        datasets = dict.fromkeys(map(whole_name, (*method.datasets, *self._test_datasets(seed))))
        inputs = [self._proposals[dataset] for dataset in datasets]
        job = self._training(name, method, seed, inputs=inputs, depends_on=self._proposal_jobs)
        self.models.append(TrainedModel(TEACHER, seed, job.folder, self.test, [job]))
        return self.models[-1]

    def _check_protocol(self, teacher: TrainedModel) -> None:
        """Check that a given teacher was evaluated with the options and labels of the students."""
        test, report = self.methods[0].cfg.TEST, teacher.report
        expected = {"threshold": test.THRESHOLD, "topk": test.TOP_K, "ap": test.AVERAGE_PRECISION}
        wrong = [
            f"{key} {report['protocol'].get(key)}" for key in expected if report["protocol"].get(key) != expected[key]
        ]
        if report.get("data", {}).get("sha256") != data_record(self.test)["sha256"]:
            wrong.append(f"other labels of {self.test}")
        if wrong:
            raise InputError(
                f"--teacher {self.teacher}: was evaluated with {', '.join(wrong)}; evaluate it again with "
                "`mlickd train --eval-only`"
            )

    def _student(self, method: Method, seed: int, teacher: TrainedModel, group: Sequence[Method]) -> TrainedModel:
        """Return a student of ``teacher``, unless the method names another; the methods of ``group`` share a cache."""
        name = f"seed{seed}/{method.name}"
        if not method.stages:
            job = self._training(name, method, seed)
            return TrainedModel(method.name, seed, job.folder, self.test, [job])
        settings = method.cfg.KD
        weights = settings.TEACHER.WEIGHTS or str(teacher.folder / "model_final.pth")
        # The knowledge depends on the teacher, and on the proposals.
        inputs = [Path(weights), Path(weights).with_name("config.yaml")]
        inputs += dict.fromkeys(self._proposals[whole_name(name)] for name in method.datasets)
        after = [] if settings.TEACHER.WEIGHTS else list(teacher.jobs)
        knowledge = ["KD.TEACHER.WEIGHTS", weights, "KD.CACHE", settings.CACHE]
        if not settings.CACHE:
            names = [other.name for other in group]
            cache_name = "knowledge" if DISTILLED in names else f"knowledge-{names[0]}"
            if self.teacher_per_seed:
                cache_name = f"seed{seed}/{cache_name}"
            knowledge[-1] = str(self.folder / cache_name)
            also = [argument for other in group[1:] for argument in ("--also-for", other.config_file)]
            options = [*self.options, *self._dataset_options(method, seed)]
            command = ["cache-knowledge", "--config-file", group[0].config_file, "--batch-size", 16, *also, *options]
            cache = Job(
                cache_name,
                self.folder,
                [*map(str, command), *knowledge],
                configs=[file for other in group for file in other.files],
                options=options,
                datasets=method.datasets,
                inputs=inputs,
                depends_on=[*self._proposal_jobs, *after],
                is_intermediate=True,
            )
            after.append(cache)
        jobs: list[Job] = []
        for stage in method.stages:
            needs = {"inputs": [*inputs, *(job.folder / job.result for job in jobs)], "depends_on": [*after, *jobs]}
            jobs.append(self._training(name, method, seed, stage, knowledge, **needs))
        return TrainedModel(method.name, seed, jobs[-1].folder, self.test, jobs)

    def _training(
        self, name: str, method: Method, seed: int, stage: str = "", knowledge: Sequence[str] = (), **needs: Sequence
    ) -> Job:
        command = ["train", "--config-file", method.config_file, *(["--kd-stage", stage] if stage else [])]
        options = [*self.options, *method.schedule, *self._dataset_options(method, seed), "SEED", str(seed)]
        return Job(
            f"{name}/{stage}" if stage else name,
            self.folder,
            [*map(str, command), *options, "OUTPUT_DIR", str(self.folder / name), *knowledge],
            # Stage 1 is not evaluated. Stage 2 starts from its student.
            result=STUDENT_CHECKPOINT if stage == "feature" else "results.json",
            configs=method.files,
            options=[stage, *options],
            datasets=[*method.datasets, *self._test_datasets(seed)],
            resumes=True,
            **needs,
        )

    def _test_datasets(self, seed: int) -> tuple[str, ...]:
        return (self.test, part_for_seed(self.held_out, seed)) if self.held_out else (self.test,)

    def _dataset_options(self, method: Method, seed: int) -> list[str]:
        data, datasets = [], method.cfg.DATASETS
        splits = {"TRAIN": datasets.TRAIN, "UNLABELED": datasets.UNLABELED, "TEST": self._test_datasets(seed)}
        for split, names in splits.items():
            data += [f"DATASETS.{split}", str(tuple(names))] if names else []
            files = [self._proposals[whole_name(name)] for name in names]
            if files != [proposals_path(name, self.proposals) for name in names]:
                data += [f"DATASETS.PROPOSALS.{split}_FILES", str(tuple(map(str, files)))]
        return [*data, "DATASETS.PROPOSALS.METHOD", self.proposals]

    def _given_proposals(self) -> dict[str, Path]:
        """Return the proposals that the methods name, by whole dataset."""
        given = {}
        for cfg in (self.teacher_method.cfg, *(method.cfg for method in self.methods)):
            names = {"TRAIN": cfg.DATASETS.TRAIN, "UNLABELED": cfg.DATASETS.UNLABELED, "TEST": (self.test,)}
            for split in names:
                for name, file in zip(names[split], cfg.DATASETS.PROPOSALS[f"{split}_FILES"], strict=False):
                    given[whole_name(part_for_seed(name, 1))] = Path(file).resolve()
        return given


def difference_over_images(pairs: Sequence[tuple[TrainedModel, TrainedModel]]) -> Summary:
    """Return the mean difference of mAP over pairs of models, in points, with its interval over resampled images."""
    mean = np.mean([one.report["metrics"]["mAP"] - other.report["metrics"]["mAP"] for one, other in pairs])
    resampled = np.mean([one.resampled - other.resampled for one, other in pairs], axis=0)
    return Summary(float(mean), len(pairs), None, *percentile_interval(resampled))


def same_labeled_images(names: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether two lists of datasets have the same images with the same labels, each equally often."""
    return list(names) == list(others) or _labeled_images(names) == _labeled_images(others)


def _labeled_images(datasets: Sequence[str]) -> list[tuple[str, list[str]]]:
    images = []
    for dataset in datasets:
        names = class_names(dataset)
        for record in dataset_records(dataset, boxes=False):
            images.append((record["file_name"], sorted(names[label] for label in record["labels"])))
    return sorted(images)
