"""Pairs of baseline and distilled runs on damaged images: each evaluation is done once and kept."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset

from mlickd.data.build import build_test_loader
from mlickd.data.catalog import class_names, dataset_records
from mlickd.data.corruptions import Corruption
from mlickd.errors import InputError
from mlickd.evaluation.multilabel import MultiLabelEvaluator
from mlickd.files import file_digest, write_json
from mlickd.runs import load_run, run_config

from .comparison import same_labeled_images

__all__ = ["Run", "open_runs", "scores_of_run"]

logger = logging.getLogger(__name__)

# What is to be equal in all runs for their figures to be of the same pictures and the same protocol.
_SHARED = ("INPUT.SIZE_TEST", "TEST.THRESHOLD", "TEST.TOP_K", "TEST.AVERAGE_PRECISION")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: its ``OUTPUT_DIR``.
        cfg: of the model for use.
        digest: of its checkpoint and of its configuration.
    """

    folder: Path
    cfg: CfgNode
    digest: str


def open_runs(baseline: Sequence[Path], distilled: Sequence[Path], dataset_name: str) -> list[tuple[Run, Run]]:
    """The runs in pairs, by position, after everything that can be wrong with them has been looked for.

    Raises:
        InputError: the numbers differ, a folder is given twice or holds no finished run of this kind, or runs are not
            comparable.
    """
    if len(baseline) != len(distilled):
        raise InputError(
            f"--baseline has {len(baseline)} runs and --distilled {len(distilled)}; give as many, ordered by seed"
        )
    folders = [*baseline, *distilled]
    twice = next((path for path in folders if sum(path.absolute() == other.absolute() for other in folders) > 1), None)
    if twice is not None:
        raise InputError(f"{twice}: given twice; give each run once")
    runs = [_open(folder) for folder in folders]
    names = class_names(dataset_name)
    for run in runs:
        if run.cfg.MODEL.NUM_CLASSES != len(names):
            raise InputError(
                f"{run.folder}: the model has {run.cfg.MODEL.NUM_CLASSES} classes, dataset {dataset_name} has "
                f"{len(names)}; take the dataset that it was trained on"
            )
        for key in _SHARED:
            first, other = _value(runs[0].cfg, key), _value(run.cfg, key)
            if first != other:
                raise InputError(
                    f"{run.folder}: {key} is {other}, but {first} in {runs[0].folder}; compare runs that share it"
                )
        if not same_labeled_images(run.cfg.DATASETS.TRAIN, runs[0].cfg.DATASETS.TRAIN):
            raise InputError(
                f"{run.folder}: DATASETS.TRAIN {run.cfg.DATASETS.TRAIN} has other photos or labels than "
                f"{runs[0].cfg.DATASETS.TRAIN} of {runs[0].folder}; compare runs of the same"
            )
    return list(zip(runs[: len(baseline)], runs[len(baseline) :], strict=True))


def scores_of_run(run: Run, dataset_name: str, corruption: Corruption | None, folder: Path) -> np.ndarray:
    """The image scores of a run on a dataset, of the last time or computed now.

    An evaluation that was stopped leaves nothing that counts. One is kept for each checkpoint, configuration, list of
    image files (by size and time of change) and kind of damage, whatever the name of the run's folder.

    Args:
        run: of :func:`open_runs`.
        dataset_name: registered dataset.
        corruption: damage to the images; None: none.
        folder: where evaluations are kept.

    Returns:
        (N, C) float32 probabilities, in the order of the records.

    Raises:
        InputError: an image or the checkpoint cannot be read, or nothing can be written.
    """
    records = dataset_records(dataset_name, boxes=False)
    key = _key(run, records, corruption)
    home = folder / f"{str(corruption or 'clean').replace(':', '-')}_{key[:20]}"
    scores_file, complete = home / "image_scores.npz", home / "evaluation.json"
    if complete.is_file():
        with np.load(scores_file) as content:
            if content["image_ids"].tolist() == [str(record["image_id"]) for record in records]:
                return content["scores"]
    logger.info("%s: %s", run.folder, corruption or "clean")
    cfg, model = load_run(str(run.folder))
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.CORRUPTION = str(corruption or "")
    cfg.TEST.CORRUPTION_SEED = corruption.seed if corruption else 0
    evaluator = MultiLabelEvaluator(
        dataset_name,
        threshold=cfg.TEST.THRESHOLD,
        topk=cfg.TEST.TOP_K,
        ap=cfg.TEST.AVERAGE_PRECISION,
        corruption=cfg.TEST.CORRUPTION,
        output_dir=str(home),
    )
    inference_on_dataset(model, build_test_loader(cfg, dataset_name), evaluator)
    write_json(complete, {"run": str(run.folder), "dataset": dataset_name, "key": key})
    with np.load(scores_file) as content:
        return content["scores"]


def _open(folder: Path) -> Run:
    cfg = run_config(str(folder))
    if cfg.KD.STAGE == "feature":
        raise InputError(f"{folder}: stage 1 leaves a classifier that has not learned; name the folder of stage 2")
    try:
        checkpoint = file_digest(cfg.MODEL.WEIGHTS)
    except OSError as error:
        raise InputError(
            f"{cfg.MODEL.WEIGHTS}: cannot be read ({error.strerror}); name the OUTPUT_DIR of a finished run"
        ) from error
    configuration = (cfg.MODEL.dump(), cfg.INPUT.dump(), cfg.DATASETS.PROPOSALS.dump(), checkpoint)
    # The folder may move, the model is the same.
    text = "\0".join(configuration).replace(cfg.MODEL.WEIGHTS, "")
    return Run(folder, cfg, hashlib.sha256(text.encode()).hexdigest())


def _key(run: Run, records: Sequence[dict], corruption: Corruption | None) -> str:
    digest = hashlib.sha256(run.digest.encode())
    digest.update((corruption.fingerprint() if corruption else "clean").encode())
    for record in records:
        try:
            status = os.stat(record["file_name"])
        except OSError as error:
            raise InputError(
                f"{record['file_name']}: cannot be read ({error.strerror}); put the image there"
            ) from error
        line = [str(record["image_id"]), record["file_name"], status.st_size, status.st_mtime_ns]
        digest.update(json.dumps(line).encode())
    return digest.hexdigest()


def _value(cfg: CfgNode, key: str) -> object:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
