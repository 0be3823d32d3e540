"""The methods that train teachers and students, each with its configuration."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from detectron2.config import CfgNode

from mlickd.data.build import model_class, training_datasets
from mlickd.data.parts import part_for_seed
from mlickd.engine.check_config import check_config
from mlickd.engine.run_config import CACHE_KEYS, load_config, scale_schedule
from mlickd.errors import InputError

# The teacher, the student without distillation, and the student of the paper's method.
TEACHER, BASELINE, DISTILLED = "teacher", "baseline", "distilled"
# Names of students, without the names of the other folders of a seed. Legends leave out names that begin with "_".
_NAME = re.compile(r"(?!(teacher|knowledge.*)$)[^\W_][\w.-]*")
# Keys with another value in each run, and the options of the command that set them.
_OPTIONS = {
    "SEED": "--seeds",
    "OUTPUT_DIR": "--output",
    "KD.TEACHER.WEIGHTS": "--teacher",
    "KD.CACHE": "--output",
    "DATASETS.TRAIN": "--train",
    "DATASETS.UNLABELED": "--unlabeled",
    "DATASETS.TEST": "--test",
    "DATASETS.PROPOSALS.METHOD": "--proposals",
}


@dataclass(frozen=True)
class Method:
    """A way to train a student, or the teacher.

    Attributes:
        name: name of the method, and of the folder of its runs.
        files: configuration files. Later files replace values of earlier ones.
        cfg: configuration with the options of the study. ``KD.TEACHER.WEIGHTS`` and ``KD.CACHE`` are empty unless the
            file of the method names another teacher or cache.
        schedule: options that replace the numbers of iterations of the files.
    """

    name: str
    files: Sequence[Path]
    cfg: CfgNode
    schedule: Sequence[str] = ()

    @property
    def config_file(self) -> str:
        """The files, as the value of ``--config-file``."""
        return ",".join(map(str, self.files))

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages of the distillation, in order; empty for a model without a teacher."""
        return tuple(self.cfg.KD.METHOD_STAGES) if model_class(self.cfg).student_architecture else ()

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the labeled and unlabeled training datasets."""
        return training_datasets(self.cfg)

    @property
    def iterations(self) -> list[int]:
        """Iterations of each run."""
        solver = self.cfg.SOLVER
        return [self.cfg.KD[stage.upper()].MAX_ITER or solver.MAX_ITER for stage in self.stages] or [solver.MAX_ITER]

    @property
    def cache_key(self) -> str:
        """The values that the teacher's knowledge depends on; methods with equal values share a cache. Empty: none."""
        return CfgNode({key: attrgetter(key)(self.cfg) for key in CACHE_KEYS}).dump() if self.stages else ""

    def for_seed(self, seed: int) -> "Method":
        """Return the method with the datasets (:func:`mlickd.data.parts.part_for_seed`) and the teacher of a seed."""
        cfg = self.cfg.clone()
        for key in ("TRAIN", "UNLABELED"):
            cfg.DATASETS[key] = tuple(part_for_seed(name, seed) for name in cfg.DATASETS[key])
        cfg.KD.TEACHER.WEIGHTS = cfg.KD.TEACHER.WEIGHTS.replace("{seed}", str(seed))
        return replace(self, cfg=cfg)

    def for_images(self, images: int) -> "Method":
        """Return the method with the schedule for a number of images, see :func:`scale_schedule`."""
        cfg = self.cfg.clone()
        return replace(self, schedule=scale_schedule(cfg, images), cfg=cfg)


def choose_methods(
    configs: Path,
    names: Sequence[str],
    files: Mapping[str, Sequence[Path]],
    *,
    train: str,
    unlabeled: Sequence[str] = (),
    options: Sequence[str],
) -> list[Method]:
    """Load the chosen methods.

    ``baseline`` is ``cls.yaml`` and ``distilled`` is ``kd.yaml`` in ``configs``. The files of any other method override
    ``kd.yaml``.

    Args:
        configs: folder of the configurations.
        names: names of the methods, in the order of the table; empty for all.
        files: files of the other methods by name. A file overrides keys of ``kd.yaml`` and of the files before it.
        train: training dataset, unless the configuration of a method names other datasets.
        unlabeled: datasets from which students with a teacher learn without labels, unless the configuration of a
            method names such datasets or other training datasets.
        options: ``KEY VALUE`` pairs for all methods.

    Raises:
        InputError: a method is unknown or named twice, its name is reserved, or its configuration is wrong.
    """
    # Absolute paths do not depend on the working folder.
    configs = configs.resolve()
    available = {BASELINE: [configs / "cls.yaml"], DISTILLED: [configs / "kd.yaml"]}
    common = load_config(str(available[DISTILLED][0]), list(options), option="--configs")
    for name, paths in files.items():
        # Links are not resolved, because _BASE_ is relative to the folder of the link.
        available[name] = [*available[DISTILLED], *(path.parent.resolve() / path.name for path in paths)]
    methods = []
    for name in names or available:
        if name not in available or list(names).count(name) > 1:
            raise InputError(f"--methods {name}: give names from {', '.join(available)}, each once")
        if not _NAME.fullmatch(name):
            raise InputError(f"method {name}: use another name, without / or spaces")
        methods.append(load_method(name, available[name], options, train, common if name in files else None))
    for method in methods:
        datasets = method.cfg.DATASETS
        if method.stages and tuple(datasets.TRAIN) == (train,) and not datasets.UNLABELED:
            datasets.UNLABELED = tuple(unlabeled)
    return methods


def load_method(
    name: str, files: Sequence[Path], options: Sequence[str], train: str, common: CfgNode | None = None
) -> Method:
    """Load the configuration of a method.

    Args:
        name: name of the method.
        files: configuration files.
        options: ``KEY VALUE`` pairs.
        train: training dataset.
        common: configuration of ``distilled``; the method keeps a training dataset, teacher or cache of its files that
            differs from it. None: the method keeps none of them.

    Raises:
        InputError: the configuration is wrong, or its model does not fit ``name``: only the teacher is a detector.
    """
    for key in options[::2]:
        if key in _OPTIONS:
            raise InputError(f"options: {key} differs from run to run; leave it out, and give {_OPTIONS[key]}")
    cfg = load_config(",".join(map(str, files)), list(options), option=f"method {name}:")
    try:
        check_config(cfg)
    except InputError as error:
        raise InputError(f"{files[-1]}: {error}") from error
    if cfg.TEST.TOP_K != 3:
        raise InputError(f"{files[-1]}: TEST.TOP_K is {cfg.TEST.TOP_K}; all runs need 3")
    for key, value in (("DATASETS.TRAIN", (train,)), ("KD.TEACHER.WEIGHTS", ""), ("KD.CACHE", "")):
        if common is None or attrgetter(key)(cfg) == attrgetter(key)(common):
            cfg.merge_from_list([key, value])
    if model_class(cfg).is_detector != (name == TEACHER):
        raise InputError(f"{files[-1]}: MODEL.META_ARCHITECTURE does not train a {name}; only a teacher is a detector")
    return Method(name, files, cfg)
