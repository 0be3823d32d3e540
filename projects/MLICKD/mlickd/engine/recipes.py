"""The methods that students are trained by: a configuration file each, and the stages that it consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode

from mlickd.distillation import KD_STAGES
from mlickd.errors import InputError

from .caching import CACHE_KEYS, config_value
from .setup import load_config

__all__ = ["WITH", "WITHOUT", "Recipe", "choose_recipes", "group_by_cache", "load_recipe", "recipe_files"]

# The student without distillation, and the one with the method of the paper.
WITHOUT, WITH = "without", "with"

# What else lies, or is recorded, in the folder where each student has one of its method's name.
_TAKEN = ("knowledge", "logs", "proposals", "teacher")


@dataclass(frozen=True)
class Recipe:
    """A way to train a student.

    Attributes:
        name: of the method.
        file: its configuration, by its absolute path.
        stages: of distillation, in order; none for a student that is trained in one run without a teacher.
        iterations: of each run.
        knowledge: the part of the configuration that what is kept of a teacher hangs on; two recipes in which it is
            equal can share a cache. Empty without a teacher.
    """

    name: str
    file: Path
    stages: tuple[str, ...]
    iterations: tuple[int, ...]
    knowledge: str = ""


def recipe_files(configs: Path) -> dict[str, Path]:
    """The configuration files of a folder by method: ``without`` is ``cls.yaml``, ``with`` is ``kd.yaml``, and every
    other is ``methods/<name>.yaml``.

    Raises:
        InputError: a file in ``methods`` has the name of one of the two, or of a folder that is not a student's.
    """
    files = {WITHOUT: configs / "cls.yaml", WITH: configs / "kd.yaml"}
    for file in sorted((configs / "methods").glob("*.yaml")):
        if file.stem in files:
            raise InputError(f"{file}: the method {file.stem} is {files[file.stem]}; give the file another name")
        if file.stem in _TAKEN or file.stem.startswith("knowledge-"):
            raise InputError(f"{file}: {file.stem} is a name for what is not a student; give the file another name")
        files[file.stem] = file
    return files


def choose_recipes(configs: Path, names: Sequence[str] = (), options: Sequence[str] = ()) -> list[Recipe]:
    """Recipes by name, or all that a folder has.

    Args:
        configs: the folder; see :func:`recipe_files`.
        names: of methods; the recipes come in this order.
        options: ``KEY VALUE`` pairs that all of them get.

    Raises:
        InputError: a method is unknown or named twice, or its configuration is wrong.
    """
    files = recipe_files(configs)
    for name in names:
        if name not in files:
            raise InputError(f"--methods {name}: there is none in {configs}; it has {', '.join(files)}")
        if list(names).count(name) > 1:
            raise InputError(f"--methods {name}: named twice; name it once")
    return [load_recipe(name, files[name], options) for name in names or files]


def load_recipe(name: str, file: Path, options: Sequence[str] = ()) -> Recipe:
    """Read what a configuration file says of stages and iterations.

    Raises:
        InputError: the file or an option is wrong, or it trains no student.
    """
    # In one spelling, from wherever it is named. The last part stays: what a link is based on lies beside the link.
    file = file.parent.resolve() / file.name
    cfg = load_config(str(file), list(options))
    if cfg.MODEL.META_ARCHITECTURE == "MultiLabelClassifier":
        return Recipe(name, file, (), (cfg.SOLVER.MAX_ITER,))
    if cfg.MODEL.META_ARCHITECTURE != "DistilledClassifier":
        raise InputError(f"{file}: MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} is no student; name another")
    stages = tuple(cfg.KD.STAGES)
    if stages[-1:] != KD_STAGES[-1:] or not set(stages) <= set(KD_STAGES):
        raise InputError(f"{file}: KD.STAGES {stages} must end with prediction, the stage that trains the classifier")
    iterations = tuple(cfg.KD[stage.upper()].MAX_ITER or cfg.SOLVER.MAX_ITER for stage in stages)
    return Recipe(name, file, stages, iterations, _knowledge(cfg))


def group_by_cache(recipes: Sequence[Recipe]) -> list[list[Recipe]]:
    """The recipes that have a teacher, in groups that share a knowledge cache; first come first."""
    groups: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        if recipe.stages:
            groups.setdefault(recipe.knowledge, []).append(recipe)
    return list(groups.values())


def _knowledge(cfg: CfgNode) -> str:
    """What of a configuration a cache hangs on, but for the paths of teacher and cache, which all recipes are given."""
    cfg.KD.TEACHER.WEIGHTS = cfg.KD.CACHE = ""
    return CfgNode({key: config_value(cfg, key) for key in CACHE_KEYS}).dump()
