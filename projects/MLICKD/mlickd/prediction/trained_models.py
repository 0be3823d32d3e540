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
from detectron2.structures import Instances
from torch import nn

from mlickd.data.build import build_test_mapper, model_class
from mlickd.files import require_file
from mlickd.modeling.meta_arch.multilabel_classifier import ClassifierWithActivationMaps
from mlickd.runs import check_has_learned, find_run, load_run, run_class_names, run_thresholds


def load_trained_model(
    path: Path, config: str | os.PathLike[str] | None
) -> tuple[list[str], Callable[[], tuple[np.ndarray, str]], dict[str, Any]]:
    """Return class names, a function that returns thresholds and their source, and the other arguments of a Predictor.

    See :func:`load_model` for the arguments.
    """
    if path.is_dir():
        path = folder = find_run(path)
        cfg, model = load_run(folder)
    else:
        require_file(str(path), "checkpoint", "name a finished run or a checkpoint")
        config_file = path.with_name("config.yaml") if config is None else Path(os.path.expanduser(config))
        folder, (cfg, model) = config_file.parent, load_run(config_file, str(path))
    check_has_learned(cfg, path)
    names = run_class_names(cfg, folder)
    parts = {"read": build_test_mapper(cfg, can_propose=True), "run": partial(_run_model, model)}
    parts["batch_size"] = cfg.TEST.IMS_PER_BATCH
    if model_class(cfg).is_detector:
        parts["finds_regions"] = True
        parts["reading_threads"] = 1  # some proposal methods draw from the process's random generator
    else:
        parts["compute_maps"] = partial(_activation_maps, model)
    return names, partial(run_thresholds, cfg, folder, names), parts


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
    with torch.no_grad():
        outputs = [{key: value.to("cpu") for key, value in output.items()} for output in model(inputs)]
    # The evaluation also clips WSDDN's sums, which rounding may put outside of [0, 1].
    return [(output["image_scores"].float().clamp(0, 1).numpy(), output.get("instances")) for output in outputs]


def _activation_maps(classifier: nn.Module, sample: dict) -> np.ndarray:
    """Return the class activation maps (C, H, W) of a student for an input."""
    with torch.no_grad():
        (output,) = ClassifierWithActivationMaps(classifier)([sample])
    return output["activation_maps"].cpu().numpy()
