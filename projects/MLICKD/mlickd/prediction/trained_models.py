"""The models of finished runs and checkpoints, for predictions."""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.evaluation.evaluator import inference_context
from detectron2.modeling import build_model
from detectron2.structures import Instances
from torch import nn

from mlickd.data.build import build_test_mapper, model_class
from mlickd.errors import InputError
from mlickd.export import hub_folder
from mlickd.modeling.checkpoint import check_fits, read_checkpoint
from mlickd.modeling.meta_arch.multilabel_classifier import ClassifierWithActivationMaps
from mlickd.runs import STUDY_FILE, check_has_learned, find_run, load_run, run_class_names, run_config, run_thresholds

_CONFIG = "config.yaml"
# Folders of the distilled student, in the folder of a seed of a comparison and in the folder of both stages.
_STUDENTS = ("distilled/prediction", "prediction")


def find_student(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return the run of the student in a folder. A path that is not a folder is returned unchanged.

    The run is the folder itself, the chosen student of a comparison, or the distilled student of a seed.

    Raises:
        InputError: the folder does not have a run; the message names runs in its sub-folders.
    """
    if not os.path.isdir(os.path.expanduser(path)):
        return path  # unchanged, because ./a/b is not the model a/b on the Hub
    path = find_run(Path(os.path.expanduser(path)))
    for folder in (path, *(path / name for name in _STUDENTS)):
        if (folder / _CONFIG).is_file() or (folder / hub_folder.CONFIG).is_file():
            return folder
    runs = sorted(config.parent for depth in range(1, 4) for config in path.glob("*/" * depth + _CONFIG))
    examples = [f", such as {run}" for run in runs if run.name != "feature"]  # stage 1 does not train the classifier
    raise InputError(f"{path / _CONFIG}: no such file; name a finished run{''.join(examples[:1])}")


def find_teacher(path: str | os.PathLike[str]) -> Path:
    """Return a teacher for :func:`load_model`: the first of these that exists.

    - the run ``teacher`` in the folder ``path``;
    - ``path``, if it is the run of a teacher, or a checkpoint in it;
    - the teacher that the configuration of the student in ``path`` names;
    - for a student that names no teacher, the run ``teacher`` of its seed or its comparison.

    Raises:
        InputError: the student has no teacher, or its teacher is missing.
    """
    path = Path(os.path.expanduser(path))
    folder = path.parent if path.is_file() else path
    run = folder / "teacher" if (folder / "teacher" / _CONFIG).is_file() else find_student(folder)
    cfg = run_config(run)
    if model_class(cfg).is_detector:
        return path if path.is_file() and run == folder else run
    for folder in () if cfg.KD.TEACHER.WEIGHTS else run.parents[:2]:  # the folders of the seed and of the comparison
        if (folder / "teacher" / _CONFIG).is_file() and (folder == run.parent or (folder / STUDY_FILE).is_file()):
            return folder / "teacher"
    if not cfg.KD.TEACHER.WEIGHTS:
        raise InputError(f"--teacher: {run}: the student has no teacher; name the folder of a teacher")
    weights = Path(cfg.KD.TEACHER.WEIGHTS)
    if not weights.is_file() or not (weights.parent / _CONFIG).is_file():
        raise InputError(
            f"--teacher: {run}: no such teacher: {weights} and its {_CONFIG}; name the folder of a teacher"
        )
    return weights


def load_trained_model(
    path: Path, config: str | os.PathLike[str] | None
) -> tuple[list[str], Callable[[], tuple[np.ndarray, str]], dict[str, Any]]:
    """Return class names, a function that returns thresholds and their source, and the other arguments of a Predictor.

    See :func:`load_model` for the arguments.
    """
    path = Path(find_student(path))
    if path.is_dir():
        folder = path
        cfg, model = load_run(folder)
    else:
        config_file = Path(os.path.expanduser(config)) if config is not None else path.parent / _CONFIG
        folder, (cfg, model) = config_file.parent, _load_checkpoint(path, config_file)
    check_has_learned(cfg, path)
    names = run_class_names(cfg, folder)
    parts = {"read": build_test_mapper(cfg, can_propose=True), "run": partial(_run_model, model)}
    parts["batch_size"] = cfg.TEST.IMS_PER_BATCH
    if model_class(cfg).is_detector:
        parts["reading_threads"] = 1  # some proposal methods draw from the process's random generator
    else:
        parts["compute_maps"] = partial(_activation_maps, model)
    return names, partial(run_thresholds, cfg, folder, names), parts


def _load_checkpoint(path: Path, config_file: Path) -> tuple[CfgNode, nn.Module]:
    content = read_checkpoint(str(path), "checkpoint")
    cfg = run_config(config_file, str(path))
    # The checkpoint of a stage of distillation also has the parameters of the distillers.
    student = {key.removeprefix("student."): value for key, value in content.items() if key.startswith("student.")}
    parameters, model = student or content, build_model(cfg)
    check_fits(model, parameters, "checkpoint", str(path))
    model.load_state_dict(parameters)
    return cfg, model.eval()


def _run_model(model: nn.Module, inputs: list[dict]) -> list[tuple[np.ndarray, Instances | None]]:
    """Return the image scores (C,), and the regions of a teacher, of each input.

    On a CPU, each thread runs the network on a part of the inputs. If all threads work on the same layer instead, they
    wait for each other after each layer, because other threads read the next photos on the same cores.
    """
    threads = torch.get_num_threads()
    if len(inputs) == 1 or threads == 1 or model.device.type != "cpu":
        return _run_batch(model, inputs)
    size = math.ceil(len(inputs) / threads)
    parts = [inputs[start : start + size] for start in range(0, len(inputs), size)]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(chain.from_iterable(pool.map(partial(_run_batch, model), parts)))
    finally:
        torch.set_num_threads(threads)  # the number for new threads, which the pool has changed


def _run_batch(model: nn.Module, inputs: list[dict]) -> list[tuple[np.ndarray, Instances | None]]:
    with inference_context(model), torch.no_grad():
        outputs = [{key: value.to("cpu") for key, value in output.items()} for output in model(inputs)]
    # The evaluation also clips WSDDN's sums, which rounding may put outside of [0, 1].
    return [(output["image_scores"].float().clamp(0, 1).numpy(), output.get("instances")) for output in outputs]


def _activation_maps(classifier: nn.Module, sample: dict) -> np.ndarray:
    """Return the class activation maps (C, H, W) of a student for an input."""
    with inference_context(classifier), torch.no_grad():
        (output,) = ClassifierWithActivationMaps(classifier)([sample])
    return output["activation_maps"].cpu().numpy()
