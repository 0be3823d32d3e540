"""The methods that train students: a configuration for each, and what they share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from detectron2.config import CfgNode

from mlickd.data.build import model_class
from mlickd.engine.caching import CACHE_KEYS
from mlickd.engine.check_config import check_config, config_value
from mlickd.engine.setup import load_config
from mlickd.errors import InputError
from mlickd.files import write_whole_file

__all__ = ["BASELINE", "DISTILLED", "Method", "choose_methods", "group_by_cache", "write_method_file"]

# The student without distillation, and the student of the paper's method.
BASELINE, DISTILLED = "baseline", "distilled"

# Other folders next to those of the students.
_RESERVED = re.compile(r"teacher|logs|methods|proposals|knowledge.*|\W.*|.*[^\w.-].*|")


@dataclass(frozen=True)
class Method:
    """A way to train a student.

    Attributes:
        name: name of the method, and of the folder of its students.
        file: configuration file.
        cfg: configuration with the options that all methods share.
        train: training datasets that the method names itself; empty if it takes those of the study.
        teacher: checkpoint of a teacher that the method names itself, or empty.
        cache: folder of a knowledge cache that the method names itself, or empty.
    """

    name: str
    file: Path
    cfg: CfgNode
    train: tuple[str, ...] = ()
    teacher: str = ""
    cache: str = ""

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages of the distillation in order; empty for a student without a teacher."""
        return tuple(self.cfg.KD.METHOD_STAGES) if model_class(self.cfg).student_architecture else ()

    @property
    def iterations(self) -> list[int]:
        """Iterations of each run."""
        solver = self.cfg.SOLVER
        return [self.cfg.KD[stage.upper()].MAX_ITER or solver.MAX_ITER for stage in self.stages] or [solver.MAX_ITER]

    @cached_property
    def cache_key(self) -> str:
        """What the knowledge of the teacher depends on. Methods with equal keys share a cache."""
        cfg = self.cfg.clone()
        cfg.KD.TEACHER.WEIGHTS, cfg.KD.CACHE = self.teacher, self.cache
        return CfgNode({key: config_value(cfg, key) for key in CACHE_KEYS}).dump()


def choose_methods(
    configs: Path,
    names: Sequence[str],
    files: Mapping[str, Sequence[Path]],
    options: Sequence[str],
    output: Path,
) -> list[Method]:
    """Load the chosen methods.

    ``baseline`` is ``cls.yaml`` and ``distilled`` is ``kd.yaml`` in ``configs``. The files of any other method are laid
    over ``kd.yaml``; the complete configuration goes to ``<output>/methods/<name>.yaml``.

    Args:
        configs: folder of the configurations.
        names: names of the methods, in the order of the table; empty for all.
        files: files of the other methods by name, each with the keys in which it differs from those before.
        options: ``KEY VALUE`` pairs for all methods.
        output: folder of the study.

    Raises:
        InputError: a method is unknown or named twice, its name is reserved, or its configuration is wrong.
    """
    # Absolute paths, so that the working folder does not matter.
    configs, output = configs.resolve(), output.resolve()
    paper = configs / "kd.yaml"
    known = {BASELINE: [configs / "cls.yaml"], DISTILLED: [paper], **files}
    for name in names or known:
        if name not in known or list(names).count(name) > 1 or _RESERVED.fullmatch(name):
            raise InputError(f"--methods {name}: give names from {', '.join(known)}, each once, without / or spaces")
    common = load_config(str(paper), list(options))
    methods = []
    for name in names or known:
        file = known[name][0]
        if name not in (BASELINE, DISTILLED):
            file = output / "methods" / f"{name}.yaml"
            # A link stays one, because its _BASE_ is next to it.
            write_method_file(file, [paper, *(path.parent.resolve() / path.name for path in known[name])])
        methods.append(_load_method(name, file, options, common))
    return methods


def _load_method(name: str, file: Path, options: Sequence[str], common: CfgNode) -> Method:
    cfg = load_config(str(file), list(options))
    checked = cfg.clone()
    checked.KD.CACHE = checked.KD.CACHE or "to be made"  # teachers of several datasets need a cache
    try:
        check_config(checked)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    method = Method(name, file, cfg)
    if model_class(cfg).is_detector or method.stages[-1:] not in ((), ("prediction",)):
        raise InputError(
            f"{file}: trains no classifier; give a student as MODEL.META_ARCHITECTURE, and end KD.METHOD_STAGES with "
            "prediction"
        )
    if name in (BASELINE, DISTILLED):
        return method
    train = tuple(cfg.DATASETS.TRAIN) if cfg.DATASETS.TRAIN != common.DATASETS.TRAIN else ()
    paths = []
    for key in ("KD.TEACHER.WEIGHTS", "KD.CACHE"):
        path = config_value(cfg, key)
        paths.append("" if path == config_value(common, key) else path)
    return Method(name, file, cfg, train, *paths)


def write_method_file(file: Path, bases: Sequence[Path], values: Mapping[str, object] | None = None) -> None:
    """Write a configuration that lays files, and then values, over each other; an equal file stays.

    Args:
        file: file to write.
        bases: absolute paths of the files.
        values: values by full key.
    """
    content: dict = {"_BASE_": [str(base) for base in bases]}
    for key, value in (values or {}).items():
        *parts, last = key.split(".")
        node = content
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(content, sort_keys=False)
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_whole_file(file, text, "make room, or give another --output", parents=True)


def group_by_cache(methods: Sequence[Method]) -> list[list[Method]]:
    """Return the methods with a teacher, in groups that share a knowledge cache."""
    groups: dict[str, list[Method]] = {}
    for method in methods:
        if method.stages:
            groups.setdefault(method.cache_key, []).append(method)
    return list(groups.values())
