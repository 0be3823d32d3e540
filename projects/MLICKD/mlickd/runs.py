"""Contents of the ``OUTPUT_DIR`` of a run: configuration, model, class names, thresholds, reports, provenance."""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import cache
from math import isfinite
from pathlib import Path

import detectron2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from mlickd import __version__
from mlickd.config import default_config
from mlickd.config_files import merge_config_file
from mlickd.data.build import build_test_mapper, model_class
from mlickd.data.catalog import RUN_CLASSES_FILE, UnknownDatasetError, class_names, dataset_records, run_classes
from mlickd.data.records import labels_digest
from mlickd.data.sources.dataset_files import read_text
from mlickd.environment import find_commit
from mlickd.errors import InputError
from mlickd.evaluation.score_files import REPORT_FILE, results_folder
from mlickd.files import file_digest, strict_json, write_atomic
from mlickd.modeling.checkpoint import check_fits, read_checkpoint
from mlickd.thresholds import THRESHOLDS_FILE, read_thresholds

# Checkpoint of the student after a stage of distillation: a plain classifier, without distillers.
STUDENT_CHECKPOINT = "student.pth"
_CONFIG = "config.yaml"
_REMEDY = "free disk space, or choose another OUTPUT_DIR"
# Folders of the distilled student, in the folder of a seed of a comparison and in the folder of both stages.
_STUDENTS = ("distilled/prediction", "prediction")
_DATA_FILE = "training_data.json"  # images and digests of the training datasets
STUDY_FILE = "comparison.json"  # in the output of a comparison; `chosen` is the path of a student in this folder


def load_run(run: str | os.PathLike[str], checkpoint: str | None = None) -> tuple[CfgNode, nn.Module]:
    """Return the configuration and the model of a run, ready for inference.

    Args:
        run, checkpoint: see :func:`run_config`.

    Raises:
        InputError: the run is not finished, or its files are damaged.
    """
    cfg = run_config(run, checkpoint)
    content = read_checkpoint(cfg.MODEL.WEIGHTS, "checkpoint")
    # The checkpoint of a stage of distillation also has the parameters of the distillers.
    prefix = "student."
    student = {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}
    parameters, model = student or content, build_model(cfg)
    check_fits(model, parameters, "checkpoint", cfg.MODEL.WEIGHTS)
    model.load_state_dict(parameters)
    return cfg, model.eval()


def find_run(folder: str | os.PathLike[str]) -> Path:
    """Return the run in a folder.

    It is the folder itself, the chosen student of a comparison, or the distilled student of a seed or of both stages.

    Raises:
        InputError: the folder does not have a run; the message names a run in its sub-folders.
    """
    folder = Path(folder)
    for run in (folder, *(folder / name for name in _STUDENTS)):
        if (run / _CONFIG).is_file():
            return run
    if (folder / STUDY_FILE).is_file():
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            chosen = folder / json.loads(read_text(folder / STUDY_FILE, "name a run"))["chosen"]
            if Path(os.path.abspath(chosen)).is_relative_to(os.path.abspath(folder)):
                return chosen
        problem = f"{folder}: the comparison has not chosen a student; name one of its runs"
    else:
        problem = f"{folder / _CONFIG}: no such file; name a finished run"
    runs = sorted(config.parent for depth in range(1, 4) for config in folder.glob("*/" * depth + _CONFIG))
    examples = [f", such as {run}" for run in runs if run.name != "feature"]  # stage 1 does not train the classifier
    raise InputError(f"{problem}{''.join(examples[:1])}")


def run_config(run: str | os.PathLike[str], checkpoint: str | None = None) -> CfgNode:
    """Return the configuration of a run for inference. A distilled student becomes a plain classifier.

    Args:
        run: folder of the run (see :func:`find_run`), or its ``config.yaml``.
        checkpoint: checkpoint for ``MODEL.WEIGHTS`` (default: the final checkpoint of the run).

    Raises:
        InputError: the configuration is missing or incomplete.
    """
    config_file = os.path.join(find_run(run), _CONFIG) if os.path.isdir(run) else os.fspath(run)
    if not os.path.isfile(config_file):
        raise InputError(f"{config_file}: no such file; name the OUTPUT_DIR of a finished run")
    cfg = default_config()
    merge_config_file(cfg, config_file, f"{config_file} is not a configuration of this project")
    if cfg.MODEL.NUM_CLASSES < 1:
        raise InputError(f"{config_file}: MODEL.NUM_CLASSES is not set; name the config.yaml of a run")
    cfg.MODEL.TIMM.PRETRAINED = False  # the checkpoint replaces the weights that would be downloaded
    name = replace_with_student(cfg)
    cfg.MODEL.WEIGHTS = checkpoint or os.path.join(os.path.dirname(config_file), name)
    cfg.MODEL.DEVICE = _available_device(cfg.MODEL.DEVICE)
    cfg.freeze()
    return cfg


def _available_device(device: str) -> str:
    """Return the device of a run, or another one if this machine does not have it."""
    if device != "cpu" and not torch.cuda.is_available():
        return "cpu"
    number = device.partition("cuda:")[2]
    return "cuda" if number and int(number) >= torch.cuda.device_count() else device


def replace_with_student(cfg: CfgNode) -> str:
    """Replace a distilled model in ``cfg`` by its student (in place); return the file name of the final checkpoint."""
    student = model_class(cfg).student_architecture
    if not student:
        return "model_final.pth"
    cfg.MODEL.META_ARCHITECTURE = student
    return STUDENT_CHECKPOINT


def check_has_learned(cfg: CfgNode, source: str | os.PathLike[str]) -> None:
    """Check that a run has trained its classifier. ``source`` names the run in the error message.

    Raises:
        InputError: the run is stage 1 of a distillation, which trains only the backbone.
    """
    if cfg.KD.STAGE == "feature":
        raise InputError(f"{source}: is stage 1, which does not train the classifier; name the run of stage 2")


def predict(
    cfg: CfgNode, model: nn.Module, records: Sequence[dict], dataset_name: str | None = None
) -> dict[object, dict]:
    """Return the outputs of a model for images.

    Args:
        cfg: configuration from :func:`load_run`.
        model: model from :func:`load_run`.
        records: records with ``file_name``, ``image_id``, ``height`` and ``width``.
        dataset_name: dataset with the proposals for a teacher. If it is None or has no proposals, they are generated.

    Returns:
        Outputs by image id, on the CPU: ``image_scores`` (C,), and for a teacher ``instances`` in original pixels.
    """
    mapper, size = build_test_mapper(cfg, dataset_name, can_propose=True), cfg.TEST.IMS_PER_BATCH
    outputs = {}
    for start in range(0, len(records), size):
        batch = [mapper(record) for record in records[start : start + size]]
        with torch.no_grad():
            for sample, output in zip(batch, model(batch), strict=True):
                outputs[sample["image_id"]] = {key: value.to("cpu") for key, value in output.items()}
    return outputs


def write_class_names(folder: str | os.PathLike[str], names: Sequence[str]) -> None:
    """Write ``classes.txt``, one name per line, into the folder of a run."""
    text = "".join(f"{name}\n" for name in names)
    write_atomic(os.path.join(folder, RUN_CLASSES_FILE), text, _REMEDY)


def write_run_files(cfg: CfgNode) -> None:
    """Write what later commands need besides a checkpoint: configuration, class names, and :func:`training_data`."""
    data = []
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.UNLABELED):
        unknown = sum(len(record.get("ignored_labels", ())) for record in dataset_records(name, boxes=False))
        data.append({**data_record(name), "labeled": name in cfg.DATASETS.TRAIN, "unknown_labels": unknown})
    for file, text in ((_CONFIG, cfg.dump()), (_DATA_FILE, f"{strict_json(data)}\n")):
        write_atomic(os.path.join(cfg.OUTPUT_DIR, file), text, _REMEDY)
    write_class_names(cfg.OUTPUT_DIR, class_names(cfg.DATASETS.TRAIN[0]))


def training_data(folder: str | os.PathLike[str]) -> list[dict]:
    """Return what a run has learned from: for each dataset :func:`data_record`, ``labeled`` and ``unknown_labels``.

    Raises:
        InputError: the file is damaged, or does not exist.
    """
    path = Path(folder) / _DATA_FILE
    text = read_text(path, "copy it from the folder of the training")
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        return [
            {key: record[key] for key in ("name", "images", "sha256", "labeled", "unknown_labels")}
            for record in json.loads(text)
        ]
    raise InputError(f"{path}: is damaged; copy it again from the folder of the training")


def run_class_names(cfg: CfgNode, folder: str | os.PathLike[str]) -> list[str]:
    """Return the class names of a run in the order of its scores, from ``classes.txt`` or else from its datasets.

    Raises:
        InputError: the names are not found, or the model has another number of classes.
    """
    path, names = Path(folder) / RUN_CLASSES_FILE, run_classes(folder)
    for dataset in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        with suppress(UnknownDatasetError):
            names = names or class_names(dataset)
    if names is None or len(names) != cfg.MODEL.NUM_CLASSES:
        found = "no such file" if names is None else f"has {len(names)} class names"
        raise InputError(f"{path}: {found}; write {cfg.MODEL.NUM_CLASSES} names in the order of the scores")
    return names


def run_thresholds(cfg: CfgNode, folder: str | os.PathLike[str], names: Sequence[str]) -> tuple[np.ndarray, str]:
    """Return the thresholds of a run from ``mlickd tune-thresholds``, or else ``TEST.THRESHOLD`` for all classes.

    Args:
        cfg: configuration of the run, with its checkpoint in ``MODEL.WEIGHTS``.
        folder: ``OUTPUT_DIR`` of the run.
        names: C class names of the run.

    Returns:
        (C,) thresholds, and a description of their source.

    Raises:
        InputError: the tuned thresholds are for other classes, or for an earlier version of the checkpoint.
    """
    path, source = Path(folder) / THRESHOLDS_FILE, f"{cfg.TEST.THRESHOLD:g} for all classes"
    if path.is_file():
        tuned = read_thresholds(str(path))
        if tuned.checkpoint == os.path.basename(cfg.MODEL.WEIGHTS):
            tuned.check(str(path), names, cfg.MODEL.WEIGHTS)
            return np.array(tuned.thresholds), f"tuned for the best F1 of each class ({tuned.images} images)"
        source += f" ({THRESHOLDS_FILE} is for {tuned.checkpoint})"
    return np.full(len(names), cfg.TEST.THRESHOLD), source


def training_metrics(folder: str | os.PathLike[str]) -> dict[int, dict[str, float]]:
    """Return the finite values in ``metrics.json`` of a run as {iteration: {name: value}}, with ascending iterations.

    If a resumed run repeated an iteration, its last values count. Incomplete lines of a killed run are skipped.

    Raises:
        InputError: the file is missing.
    """
    metrics: dict[int, dict[str, float]] = {}
    for line in read_text(Path(folder) / "metrics.json", "train the run first, or name its OUTPUT_DIR").splitlines():
        with suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            values = json.loads(line)
            finite = {key: x for key, x in values.items() if isinstance(x, (int, float)) and isfinite(x)}
            metrics.setdefault(int(finite.pop("iteration")), {}).update(finite)
    return dict(sorted(metrics.items()))


def report_path(folder: str | os.PathLike[str], dataset_name: str) -> Path | None:
    """Return the report in :func:`mlickd.evaluation.score_files.results_folder`, or None if it does not exist."""
    path = results_folder(folder, dataset_name) / REPORT_FILE
    return path if path.is_file() else None


def read_report(path: str | os.PathLike[str]) -> dict:
    """Read a report of :class:`mlickd.evaluation.MultiLabelEvaluator`, in percent.

    Raises:
        InputError: the file is missing, or is not a report.
    """
    text = read_text(Path(path), "evaluate the run on this dataset first")
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        report = json.loads(text)
        if "mAP" in report["metrics"] and all("AP" in values for values in report["per_class"].values()):
            return report
    raise InputError(f"{path}: not a report of the multi-label evaluator; evaluate the run again")


def provenance(cfg: CfgNode, dataset_name: str, checkpoint: str = "") -> dict:
    """Return the provenance of results of a run on a dataset, ready for JSON.

    It has ``data`` (:func:`data_record`), ``image_size`` in pixels, ``config`` (``sha256`` of the configuration of the
    evaluation), ``versions`` (:func:`code_versions`), ``date`` (UTC), and after the training ``checkpoint`` (``sha256``
    of the file).
    """
    evaluated = {"checkpoint": {"sha256": file_digest(checkpoint)}} if checkpoint else {}
    return evaluated | {
        "data": data_record(dataset_name),
        "image_size": cfg.INPUT.SIZE_TEST,
        "config": {"sha256": hashlib.sha256(cfg.dump().encode()).hexdigest()},
        "versions": code_versions(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def data_record(dataset_name: str) -> dict:
    """Return ``name``, ``images`` and ``sha256`` (:func:`labels_digest`) of a dataset.

    Raises:
        UnknownDatasetError: the dataset does not exist.
    """
    records = dataset_records(dataset_name, boxes=False)
    digest = labels_digest(records, class_names(dataset_name))
    return {"name": dataset_name, "images": len(records), "sha256": digest}


@cache
def code_versions() -> dict[str, str | None]:
    """Return the versions of ``mlickd``, ``torch`` and ``detectron2``, and the ``commit`` of the git checkout.

    The commit ends with ``-dirty`` if files have changed since then. It is None if git does not track the package.
    """
    versions = {"mlickd": __version__, "torch": torch.__version__, "detectron2": detectron2.__version__}
    return versions | {"commit": find_commit()}
