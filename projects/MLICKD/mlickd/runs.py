"""What a run leaves in its ``OUTPUT_DIR``: configuration, checkpoint, class names, metrics and provenance."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import detectron2
import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.evaluation.evaluator import inference_context
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager
from torch import nn

import mlickd
from mlickd.config import default_config
from mlickd.config_files import merge_config_file
from mlickd.data import scenes
from mlickd.data.build import build_inference_mapper, model_class
from mlickd.data.catalog import UnknownDatasetError, class_names, dataset_records
from mlickd.data.manifest import make_manifest
from mlickd.data.parts import whole_name
from mlickd.data.text_files import read_lines
from mlickd.errors import InputError
from mlickd.evaluation.score_files import SCORES_FILE, read_scores
from mlickd.evaluation.thresholds import THRESHOLDS_FILE, read_thresholds
from mlickd.files import write_whole_file
from mlickd.modeling import load_checkpoint

__all__ = [
    "CLASSES_FILE",
    "DIGESTS",
    "LAST",
    "STUDENT_CHECKPOINT",
    "check_has_learned",
    "data_record",
    "forgetting_checkpoints",
    "load_run",
    "machine_line",
    "model_config",
    "multilabel_results",
    "multilabel_results_path",
    "predict",
    "provenance",
    "read_digests",
    "run_class_names",
    "run_config",
    "saved_checkpoints",
    "training_metrics",
    "use_student",
    "write_class_names",
]

# Each stage of distillation writes its student as a plain classifier, without distillers, to this checkpoint.
STUDENT_CHECKPOINT = "student.pth"
# As in a folder dataset.
CLASSES_FILE = "classes.txt"


def write_class_names(folder: str, names: Sequence[str]) -> None:
    """Write ``classes.txt``, a name a line, into the folder of a run."""
    text = "".join(f"{name}\n" for name in names)
    write_whole_file(os.path.join(folder, CLASSES_FILE), text, "make room, or choose another OUTPUT_DIR")


def run_class_names(cfg: CfgNode, folder: str | os.PathLike[str]) -> list[str]:
    """The names of the classes of a finished run, in the order of its scores.

    They are those of ``classes.txt`` in its folder; of a run that has none, those in its thresholds or in the scores of
    its evaluation; and else those of its datasets.

    Args:
        cfg: of the run.
        folder: its ``OUTPUT_DIR``.

    Raises:
        InputError: they are nowhere, or are not as many as the model has classes.
    """
    for source, names in _candidates(cfg, Path(folder)):
        if len(names) != cfg.MODEL.NUM_CLASSES:
            raise InputError(
                f"{source}: has {len(names)} class names, the model has {cfg.MODEL.NUM_CLASSES} classes; correct "
                f"{Path(folder) / CLASSES_FILE}, one name a line in the order of the scores"
            )
        return names
    data = ", ".join(dict.fromkeys([*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN]))
    raise InputError(
        f"{Path(folder) / CLASSES_FILE}: no such file, and its datasets ({data}) are not here; write the names of the "
        "classes into it, one a line in the order of the dataset, or set DETECTRON2_DATASETS"
    )


def _candidates(cfg: CfgNode, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Names, and where they are from, the best source first."""
    if (path := folder / CLASSES_FILE).is_file():
        yield str(path), [name for _, name in read_lines(path, "write one name a line")]
    if (path := folder / THRESHOLDS_FILE).is_file():
        yield str(path), read_thresholds(str(path)).class_names
    for path in sorted(folder.glob(f"inference/*/{SCORES_FILE}")):
        if (names := read_scores(str(path)).class_names) is not None:
            yield str(path), names
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        if whole_name(name) in {f"{scenes.DIRECTORY}_{split}" for split in scenes.COUNTS}:
            # Asked for its names, the dataset would be drawn.
            yield name, list(scenes.CATEGORY_NAMES)
        try:
            yield name, class_names(name)
        except UnknownDatasetError:
            continue


def load_run(folder: str) -> tuple[CfgNode, nn.Module]:
    """The configuration and the model that training left in ``folder`` (an ``OUTPUT_DIR``), ready for inference.

    Of a run with distillation it is the student, as the plain classifier that it is.

    Raises:
        InputError: the folder holds no finished run.
    """
    cfg = run_config(folder)
    model = build_model(cfg)
    load_checkpoint(model, cfg.MODEL.WEIGHTS, "run folder: checkpoint")
    return cfg, model.eval()


def check_has_learned(cfg: CfgNode, run: str | os.PathLike[str]) -> None:
    """
    Args:
        cfg: of a run.
        run: its folder or checkpoint, for the message.

    Raises:
        InputError: it is stage 1 of a distillation, whose classifier has seen no label.
    """
    if cfg.KD.STAGE == "feature":
        raise InputError(
            f"{run}: is stage 1 of a distillation, whose classifier has seen no label yet; name the run of stage 2, "
            "prediction"
        )


def run_config(folder: str) -> CfgNode:
    """The configuration that training left in ``folder``, of the model for use and with its checkpoint.

    Raises:
        InputError: the folder holds no run.
    """
    config_file = os.path.join(folder, "config.yaml")
    if not PathManager.isfile(config_file):
        raise InputError(f"{config_file}: no such file; name the OUTPUT_DIR of a finished run")
    return model_config(config_file)


def model_config(config_file: str, checkpoint: str | None = None) -> CfgNode:
    """The configuration of the model for use: of a student in distillation, that of the plain classifier.

    Args:
        config_file: that training has left.
        checkpoint: of the model; None takes that beside the configuration.

    Raises:
        InputError: the file is missing, or no complete configuration.
    """
    if not PathManager.isfile(config_file):
        raise InputError(f"{config_file}: no such file; name the config.yaml that training has left")
    cfg = default_config()
    merge_config_file(cfg, config_file, f"{config_file} is no configuration of this project")
    if cfg.MODEL.NUM_CLASSES < 1:
        raise InputError(f"{config_file}: MODEL.NUM_CLASSES is open; name the config.yaml that training has left")
    cfg.MODEL.TIMM.PRETRAINED = False  # the checkpoint replaces whatever would be downloaded
    name = use_student(cfg)
    cfg.MODEL.WEIGHTS = checkpoint or os.path.join(os.path.dirname(config_file), name)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    return cfg


def use_student(cfg: CfgNode) -> str:
    """Replace a distilled model in ``cfg`` by its student, which evaluation and prediction use (in place).

    Returns:
        The file name of the checkpoint that training leaves for use.
    """
    student = model_class(cfg).student_architecture
    if not student:
        return "model_final.pth"
    cfg.MODEL.META_ARCHITECTURE = student
    return STUDENT_CHECKPOINT


def predict(
    cfg: CfgNode, model: nn.Module, records: Sequence[dict], dataset_name: str | None = None
) -> dict[object, dict]:
    """The model's outputs for images of a dataset or any others.

    Args:
        cfg: of the model: input size and format, proposals.
        records: with ``file_name``, ``image_id``, ``height`` and ``width``.
        dataset_name: dataset of the records, whose proposals are taken. Where they are not there, or the photos are of
            no dataset (None), proposals are made on the fly.

    Returns:
        Outputs by image id: ``image_scores`` (C,), and ``instances`` in original pixels from a teacher; on the CPU.
    """
    loader = build_detection_test_loader(
        dataset=list(records),
        mapper=build_inference_mapper(cfg, dataset_name),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        num_workers=0,
    )
    outputs = {}
    with inference_context(model), torch.no_grad():
        for batch in loader:
            for sample, output in zip(batch, model(batch), strict=True):
                outputs[sample["image_id"]] = {key: value.to("cpu") for key, value in output.items()}
    return outputs


def provenance(cfg: CfgNode, dataset_name: str) -> dict:
    """
    Args:
        cfg: complete, as Detectron2 writes it into the run's ``config.yaml``.
        dataset_name: of the images that the numbers are on.

    Returns:
        Ready for JSON: ``data`` (:func:`data_record`), ``config`` (``sha256`` as of the file ``config.yaml``),
        ``versions`` (:func:`code_versions`), and ``date`` (UTC).
    """
    return {
        "data": data_record(dataset_name),
        "config": {"sha256": hashlib.sha256(cfg.dump().encode()).hexdigest()},
        "versions": code_versions(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def data_record(dataset_name: str) -> dict:
    """``name``, ``images`` and ``sha256`` of a dataset: the digest of ``tools/dataset_manifest.py``.

    Raises:
        InputError: there is no such dataset.
    """
    records = dataset_records(dataset_name, boxes=False)
    manifest = make_manifest(dataset_name, records, class_names(dataset_name))
    return {"name": dataset_name, "images": len(records), "sha256": manifest.digest()}


@cache
def code_versions() -> dict:
    """Versions of ``mlickd``, ``torch`` and ``detectron2``, and the ``commit`` of a git checkout that the package lies
    in: its hash, with ``-dirty`` behind it where files have changed since; None elsewhere."""
    return {
        "mlickd": mlickd.__version__,
        "commit": _commit(Path(mlickd.__file__).parent),
        "torch": torch.__version__,
        "detectron2": detectron2.__version__,
    }


def _commit(package: Path) -> str | None:
    git = ("git", "-C", str(package))
    try:
        # An installed package may lie in a folder of somebody else's checkout, which does not track it.
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, check=True)
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, check=True, text=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


logger = logging.getLogger(__name__)

# File of a run, beside its checkpoints: the SHA-256 of each, in the order in which they were saved.
DIGESTS = "checkpoints.json"
# As Detectron2: the name of the last one.
LAST = "last_checkpoint"
# There while a run makes the folder its own. Killed meanwhile, it does not go on from what is left of another one.
_STARTING = "starting_anew"


def saved_checkpoints(folder: Path) -> list[str]:
    """Names of the checkpoints, the newest first. The first may be missing, and any be damaged."""
    if (folder / _STARTING).exists():
        return []
    tag = folder / LAST
    last = [Path(tag.read_text(errors="replace").strip()).name] if tag.exists() else []
    # The digests are written before the tag: killed in between, they have one more.
    others = [name for name in reversed(read_digests(folder)) if name not in last and (folder / name).exists()]
    return [*last, *others]


def read_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of the checkpoints by their names, the oldest first; none where the list is missing or damaged."""
    path = folder / DIGESTS
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        logger.warning("%s is damaged; checkpoints are looked at without it", path)
        return {}
    # Names alone: what stands in a file never leads out of the folder.
    return {name: value for name, value in content.items() if Path(name).name == name}


@contextmanager
def forgetting_checkpoints(folder: Path) -> Iterator[None]:
    """Forget the checkpoints of another run, whose files stay, in one step with what is done within.

    Raises:
        InputError: the folder cannot be written to.
    """
    if not any((folder / name).exists() for name in (LAST, DIGESTS, _STARTING)):
        yield
        return
    write_whole_file(folder / _STARTING, "", "make room, then give the same command again")
    yield
    for name in (LAST, DIGESTS, _STARTING):
        (folder / name).unlink(missing_ok=True)


def training_metrics(folder: str | Path) -> dict[int, dict[str, float]]:
    """What Detectron2's ``JSONWriter`` has written into ``metrics.json``.

    Of an iteration that was done again after a resume the last values count.

    Returns:
        Finite metrics by name, by iteration, in ascending order.

    Raises:
        InputError: the file is missing or is not what Detectron2 writes.
    """
    path = Path(folder) / "metrics.json"
    metrics: dict[int, dict[str, float]] = {}
    lines = _read(path, "train the run first, or name its OUTPUT_DIR").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            iteration = int(values.pop("iteration"))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            if number == len(lines):
                break  # the run was stopped while it wrote
            raise InputError(f"{path}: line {number}: not a line of Detectron2's metrics.json; remove it") from None
        finite = {
            key: value for key, value in values.items() if isinstance(value, (int, float)) and math.isfinite(value)
        }
        metrics.setdefault(iteration, {}).update(finite)
    return dict(sorted(metrics.items()))


def multilabel_results_path(folder: str | Path, dataset_name: str) -> Path:
    """Where training leaves the report of :class:`mlickd.evaluation.MultiLabelEvaluator` on a dataset."""
    return Path(folder) / "inference" / dataset_name / "multilabel_results.json"


def multilabel_results(path: str | Path) -> dict:
    """The report of :class:`mlickd.evaluation.MultiLabelEvaluator`, in percent.

    Raises:
        InputError: the file is missing or is no such report.
    """
    text = _read(Path(path), "evaluate the run on this dataset first")
    try:
        report = json.loads(text)
        if "mAP" in report["metrics"] and all("AP" in values for values in report["per_class"].values()):
            return report
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise InputError(f"{path}: not a report of the multi-label evaluator; evaluate the run again")


def _read(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {remedy}") from error


def machine_line() -> str:
    """Processor, usable cores, memory and versions, on one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [_processor(), f"{cores} cores"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        parts.append(f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB")
    parts += [platform.system(), f"Python {platform.python_version()}", f"PyTorch {torch.__version__}"]
    return ", ".join(parts)


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()
