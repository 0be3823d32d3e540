"""The methods that students are trained by: a configuration file each, and the stages that it consists of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from detectron2.config import CfgNode

from mlickd.distillation import KD_STAGES
from mlickd.engine.caching import CACHE_KEYS, config_value
from mlickd.engine.check_config import check_config
from mlickd.engine.setup import load_config
from mlickd.errors import InputError
from mlickd.files import write_whole_file

__all__ = [
    "BASELINE",
    "DISTILLED",
    "Method",
    "choose_methods",
    "group_by_cache",
    "load_method",
    "method_files",
    "write_method_file",
]

# The student without distillation, and the student of the paper's method.
BASELINE, DISTILLED = "baseline", "distilled"

# What else lies, or is recorded, in the folder where each student has one of its method's name.
_TAKEN = ("knowledge", "logs", "proposals", "teacher")


@dataclass(frozen=True)
class Method:
    """A way to train a student.

    Attributes:
        name: of the method.
        file: its configuration, by its absolute path.
        stages: of distillation, in order; none for a student that is trained in one run without a teacher.
        iterations: of each run.
        knowledge: the part of the configuration that what is kept of a teacher hangs on; two methods in which it is
            equal can share a cache. Empty without a teacher.
        train: names of training datasets of its own; empty: those of the others.
        unlabeled: names of datasets that it learns from by knowledge alone.
        teacher: checkpoint of a teacher of its own, which is there; empty: that of the others.
        cache: folder of a knowledge cache of its own, which is there; empty: one is made.
    """

    name: str
    file: Path
    stages: tuple[str, ...]
    iterations: tuple[int, ...]
    knowledge: str = ""
    train: tuple[str, ...] = ()
    unlabeled: tuple[str, ...] = ()
    teacher: str = ""
    cache: str = ""


def method_files(configs: Path) -> dict[str, Path]:
    """The configuration files of a folder by method: ``baseline`` is ``cls.yaml``, ``distilled`` is ``kd.yaml``, every
    other is ``methods/<name>.yaml``.

    Raises:
        InputError: a file in ``methods`` has the name of one of the two, or of a folder that is not a student's.
    """
    files = {BASELINE: configs / "cls.yaml", DISTILLED: configs / "kd.yaml"}
    for file in sorted((configs / "methods").glob("*.yaml")):
        if file.stem in files:
            raise InputError(f"{file}: the method {file.stem} is {files[file.stem]}; give the file another name")
        if _is_taken(file.stem):
            raise InputError(f"{file}: {file.stem} is a name for what is not a student; give the file another name")
        files[file.stem] = file
    return files


def choose_methods(
    configs: Path, names: Sequence[str] = (), options: Sequence[str] = (), files: Mapping[str, Path] | None = None
) -> list[Method]:
    """Methods by name, or all that a folder has, and others.

    Args:
        configs: the folder; see :func:`method_files`.
        names: of methods of the folder; the methods come in this order.
        options: ``KEY VALUE`` pairs that all of them get.
        files: configurations that lie elsewhere, by the name of the method.

    Raises:
        InputError: a method is unknown or named twice, or its configuration is wrong.
    """
    known = method_files(configs)
    for name in names:
        if name not in known:
            raise InputError(f"--methods {name}: there is none in {configs}; give one of {', '.join(known)}")
        if list(names).count(name) > 1:
            raise InputError(f"--methods {name}: named twice; name it once")
    chosen = {name: known[name] for name in names or known}
    for name, file in (files or {}).items():
        if name in known:
            raise InputError(f"--method-file {name}={file}: the method {name} is {known[name]}; give another name")
        if _is_taken(name) or not re.fullmatch(r"\w[\w.-]*", name):
            raise InputError(
                f"--method-file {name}={file}: {name!r} is no name for the folder of a student; give another"
            )
        chosen[name] = file
    common = load_config(str(known[DISTILLED]), list(options))
    return [load_method(name, file, options, common) for name, file in chosen.items()]


def load_method(name: str, file: Path, options: Sequence[str] = (), common: CfgNode | None = None) -> Method:
    """Read what a configuration file says of stages, iterations, and of what is its own.

    Args:
        name: of the method.
        file: its configuration.
        options: ``KEY VALUE`` pairs for it.
        common: configuration of :data:`DISTILLED`. Where this one names another teacher, cache or training datasets,
            they are its own. None: it has none.

    Raises:
        InputError: the file, an option or a value is wrong, or it trains no student.
    """
    # In one spelling, from wherever it is named. The last part stays: what a link is based on lies beside the link.
    file = file.parent.resolve() / file.name
    cfg = load_config(str(file), list(options))
    if cfg.MODEL.META_ARCHITECTURE not in ("MultiLabelClassifier", "DistilledClassifier"):
        raise InputError(f"{file}: MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} is no student; name another")
    checked = cfg.clone()
    checked.KD.CACHE = checked.KD.CACHE or "to be made"  # so there may be several teachers
    try:
        check_config(checked)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    own = {} if common is None or name in (BASELINE, DISTILLED) else _own(cfg, common)
    if cfg.MODEL.META_ARCHITECTURE == "MultiLabelClassifier":
        return Method(name, file, (), (cfg.SOLVER.MAX_ITER,), train=own.get("train", ()))
    stages = tuple(cfg.KD.METHOD_STAGES)
    if stages[-1:] != KD_STAGES[-1:] or not set(stages) <= set(KD_STAGES):
        raise InputError(
            f"{file}: KD.METHOD_STAGES {stages} must end with prediction, the stage that trains the classifier; add it"
        )
    iterations = tuple(cfg.KD[stage.upper()].MAX_ITER or cfg.SOLVER.MAX_ITER for stage in stages)
    # Paths that are given to all methods make no difference.
    if "teacher" not in own:
        cfg.KD.TEACHER.WEIGHTS = ""
    if "cache" not in own:
        cfg.KD.CACHE = ""
    knowledge = CfgNode({key: config_value(cfg, key) for key in CACHE_KEYS}).dump()
    return Method(name, file, stages, iterations, knowledge, unlabeled=tuple(cfg.DATASETS.UNLABELED), **own)


def write_method_file(file: Path, base: Path, values: Mapping[str, object], comment: str) -> None:
    """Write a configuration that differs from another in some values; one that is there as it should be stays.

    Args:
        file: to write.
        base: the other, by its absolute path.
        values: by full key.
        comment: one line for the reader.
    """
    content: dict = {"_BASE_": str(base)}
    for key, value in values.items():
        *parts, last = key.split(".")
        node = content
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = list(value) if isinstance(value, tuple) else value
    text = f"# {comment}\n{yaml.safe_dump(content, sort_keys=False)}"
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_whole_file(file, text, "make room, or name another folder")


def group_by_cache(methods: Sequence[Method]) -> list[list[Method]]:
    """The methods that have a teacher, in groups that share a knowledge cache; first come first."""
    groups: dict[str, list[Method]] = {}
    for method in methods:
        if method.stages:
            groups.setdefault(method.knowledge, []).append(method)
    return list(groups.values())


def _own(cfg: CfgNode, common: CfgNode) -> dict:
    """What a method names otherwise than the one that it is compared with, by attribute of :class:`Method`."""
    own: dict = {}
    if cfg.DATASETS.TRAIN != common.DATASETS.TRAIN:
        own["train"] = tuple(cfg.DATASETS.TRAIN)
    if cfg.MODEL.META_ARCHITECTURE == "DistilledClassifier":
        for attribute, key in (("teacher", "KD.TEACHER.WEIGHTS"), ("cache", "KD.CACHE")):
            value = config_value(cfg, key)
            if value and value != config_value(common, key):
                own[attribute] = value if "://" in value else str(Path(value).resolve())
    return own


def _is_taken(name: str) -> bool:
    return name in _TAKEN or name.startswith("knowledge-")
