"""Choose class thresholds on held-out images."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset

from mlickd.data.build import build_test_loader
from mlickd.data.catalog import UnknownDatasetError, class_names, dataset_records
from mlickd.errors import InputError
from mlickd.evaluation import MultiLabelEvaluator
from mlickd.evaluation.score_files import SCORES_FILE, ImageScores, read_scores
from mlickd.files import file_digest
from mlickd.runs import (
    check_has_learned,
    find_run,
    load_run,
    provenance,
    run_class_names,
    run_config,
)
from mlickd.thresholds import THRESHOLDS_FILE, ClassThresholds, best_f1_thresholds, write_thresholds

logger = logging.getLogger(__name__)


def tune_thresholds(run: str | os.PathLike[str], dataset: str) -> ClassThresholds:
    """Choose the threshold with the best F1 for each class, and write ``thresholds.json`` into the run's folder.

    The scores are saved in ``<run>/evaluation/inference/<dataset>``; see :func:`compute_scores`.

    Args:
        run: folder of a finished run.
        dataset: name of a dataset that does not share images with the first dataset of ``DATASETS.TEST`` of the run.

    Raises:
        InputError: the run is not finished, or the dataset has other classes or shares images with the test dataset.
    """
    run = find_run(run)
    cfg, records = run_config(run), dataset_records(dataset, boxes=False)
    check_has_learned(cfg, run)
    # `compare` puts the held-out dataset second in DATASETS.TEST.
    if shared := _shared_images(records, cfg, "DATASETS.TEST", cfg.DATASETS.TEST[:1]):
        raise InputError(
            f"dataset {dataset}: {len(shared)} of its {len(records)} images are in DATASETS.TEST of {run} (one is "
            f"{shared[0]['image_id']}), so results on them would be too good; name other images"
        )
    if shared := _shared_images(records, cfg, "DATASETS.TRAIN", cfg.DATASETS.TRAIN):
        seen = f"{len(shared)} of the {len(records)} images of {dataset}"
        logger.warning("%s was trained on %s, so the thresholds may not suit other images", run, seen)
    scores = compute_scores(run, run / "evaluation" / "inference" / dataset, dataset)
    thresholds, f1 = best_f1_thresholds(scores.scores, scores.targets, cfg.TEST.THRESHOLD)
    tuned = ClassThresholds(
        class_names=scores.class_names,
        thresholds=thresholds.tolist(),
        f1=[None if np.isnan(value) else value for value in f1.tolist()],
        positives=(scores.targets == 1).sum(axis=0).tolist(),
        default_threshold=cfg.TEST.THRESHOLD,
        dataset=dataset,
        images=len(records),
        data_sha256=scores.data_digest(),
        checkpoint=Path(cfg.MODEL.WEIGHTS).name,
        checkpoint_sha256=file_digest(cfg.MODEL.WEIGHTS),
    )
    write_thresholds(tuned, str(run / THRESHOLDS_FILE))
    return tuned


def compute_scores(folder: Path, output: Path, dataset: str) -> ImageScores:
    """Return the image scores of a run on a dataset.

    Args:
        folder: folder of the run.
        output: folder of the scores.
        dataset: name of the dataset.

    Raises:
        InputError: the run is not finished, it has other classes than the dataset, or an image cannot be read.
    """
    cfg = run_config(folder).clone()
    if run_class_names(cfg, folder) != class_names(dataset):
        raise InputError(f"--dataset {dataset}: has other classes than {folder}; give a dataset with these classes")
    cfg.defrost()
    cfg.DATASETS.TEST, cfg.DATASETS.PROPOSALS.TEST_FILES = (dataset,), ()
    evaluator = MultiLabelEvaluator(
        dataset,
        threshold=cfg.TEST.THRESHOLD,
        topk=cfg.TEST.TOP_K,
        ap=cfg.TEST.AVERAGE_PRECISION,
        provenance=provenance(cfg, dataset, cfg.MODEL.WEIGHTS),
        output_dir=str(output),
    )
    inference_on_dataset(load_run(folder)[1], build_test_loader(cfg, dataset), evaluator)
    return read_scores(str(output / SCORES_FILE))


def _shared_images(records: Sequence[dict], cfg: CfgNode, key: str, datasets: Sequence[str]) -> list[dict]:
    """Return the records whose image is also in one of ``datasets``, which ``cfg`` lists under ``key``."""
    files: set[str] = set()
    for name in datasets:
        try:
            files.update(record["file_name"] for record in dataset_records(name, boxes=False))
        except UnknownDatasetError:
            logger.warning(
                "%s, in %s of %s, is not on this machine; its images are not compared", name, key, cfg.MODEL.WEIGHTS
            )
    return [record for record in records if record["file_name"] in files]
