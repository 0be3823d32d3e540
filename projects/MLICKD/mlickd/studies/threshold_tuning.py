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
from mlickd.engine import Trainer
from mlickd.errors import InputError
from mlickd.evaluation.score_files import SCORES_FILE, ImageScores, read_scores
from mlickd.files import file_digest
from mlickd.runs import check_has_learned, load_run, run_class_names, run_config
from mlickd.thresholds import THRESHOLDS_FILE, ClassThresholds, best_f1_thresholds, write_thresholds

logger = logging.getLogger(__name__)


def tune_thresholds(run: Path, dataset: str) -> ClassThresholds:
    """Choose the threshold with the best F1 for each class, and write ``thresholds.json`` into the run's folder.

    See :func:`compute_scores` for the files of scores and metrics.

    Args:
        run: folder of a finished run, see :func:`mlickd.runs.find_run`.
        dataset: name of a dataset that does not share images with the first dataset of ``DATASETS.TEST`` of the run.

    Raises:
        InputError: the run is not finished, or the dataset has other classes or shares images with the test dataset.
    """
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
    scores = compute_scores(run, dataset)
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


def compute_scores(run: Path, dataset: str) -> ImageScores:
    """Evaluate a run on a dataset, and return its image scores.

    The reports go to ``<run>/evaluation/inference/<dataset>``.

    Raises:
        InputError: the run is not finished, it has other classes than the dataset, or an image cannot be read.
    """
    cfg, model = load_run(run)
    if run_class_names(cfg, run) != class_names(dataset):
        raise InputError(f"--dataset {dataset}: has other classes than {run}; give a dataset with these classes")
    cfg.defrost()
    cfg.OUTPUT_DIR = str(run / "evaluation")
    evaluator = Trainer.build_evaluator(cfg, dataset, checkpoint=cfg.MODEL.WEIGHTS)
    inference_on_dataset(model, build_test_loader(cfg, dataset), evaluator)
    return read_scores(os.path.join(cfg.OUTPUT_DIR, "inference", dataset, SCORES_FILE))


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
