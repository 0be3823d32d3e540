"""Calibration of a live and of a cached teacher through the command line, and a student that uses it."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode

from helpers.cached_scenes import CachedScenes, samples
from mlickd.config import default_config
from mlickd.data import View, dataset_records
from mlickd.data.records import label_targets
from mlickd.distillation.calibration import Calibration, fit_platt_scaling
from mlickd.distillation.hook import build_knowledge_source
from mlickd.distillation.teacher_config import load_teacher_configs
from mlickd.engine import check_inputs

PARTS = ("tiny_train@1of2", "tiny_train@2of2")


@pytest.fixture(scope="module")
def scenes(tiny_proposals: None, tmp_path_factory: pytest.TempPathFactory) -> CachedScenes:
    """Write a teacher that was trained on the second half of `tiny_train`."""
    scenes = CachedScenes.create(tmp_path_factory.mktemp("scenes"))
    file = scenes.folder / "config.yaml"
    cfg = default_config()
    cfg.merge_from_file(str(file))
    cfg.DATASETS.TRAIN = PARTS[1:]
    file.write_text(cfg.dump())
    return scenes


def config_options(scenes: CachedScenes) -> list[object]:
    return ["DATASETS.TRAIN", PARTS[:1], "DATASETS.PROPOSALS.TRAIN_FILES", (str(scenes.proposals),)]


def student_config(scenes: CachedScenes, cache: object, *options: object) -> CfgNode:
    """Return the configuration of stage 2 on the first half of `tiny_train`."""
    softer = ["KD.PREDICTION.TEACHER_TEMPERATURE", 0.5]
    return scenes.config("prediction", cache, *config_options(scenes), *softer, *options)


def test_live_and_cached_teachers_have_the_same_calibration(
    scenes: CachedScenes, tmp_path: Path, call_tool, caplog
) -> None:
    live, cached = tmp_path / "live.json", tmp_path / "cached.json"
    distillation = student_config(scenes, "", "KD.STAGE", "", "DATASETS.TRAIN", (), "DATASETS.TEST", ())
    (tmp_path / "live.yaml").write_text(distillation.dump())
    arguments = ["--config-file", tmp_path / "live.yaml", "--dataset", PARTS[0], "--output", live]
    with caplog.at_level(logging.INFO):
        result = call_tool("calibrate_teacher", *arguments)
    assert result.status == 0, result.err
    assert "12 held-out images" in caplog.text
    calibration = Calibration.load(str(live))

    # The expected calibration is a fit to the uncalibrated scores.
    cache = scenes.make(str(tmp_path / "cache"), *config_options(scenes), features=False, mirrored=False)
    cfg = student_config(scenes, cache)
    views = [(index, View(32)) for index in range(12)]
    source = build_knowledge_source(cfg, load_teacher_configs(cfg))
    plain_scores = [knowledge.image_scores for knowledge in source(samples(cfg, views))]
    targets = label_targets(dataset_records(PARTS[0]), 20)
    slopes, intercepts = fit_platt_scaling(np.stack(plain_scores), targets)
    np.testing.assert_allclose(calibration.slopes, slopes, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(calibration.intercepts, intercepts, rtol=0.02, atol=0.02)

    distillation = student_config(scenes, cache, "KD.STAGE", "", "DATASETS.TEST", ())
    (tmp_path / "kd.yaml").write_text(distillation.dump())
    result = call_tool("calibrate_teacher", "--config-file", tmp_path / "kd.yaml", "--output", cached)
    assert result.status == 0, result.err
    from_cache = Calibration.load(str(cached))
    np.testing.assert_allclose(from_cache.slopes, slopes, rtol=1e-6)
    assert (from_cache.classes, from_cache.held_out) == (calibration.classes, calibration.held_out)

    for given in (cache, ""):
        calibrated = student_config(scenes, given, "KD.PREDICTION.CALIBRATION", str(cached))
        teachers, opened = check_inputs(calibrated)
        source = opened or build_knowledge_source(calibrated, teachers)
        for plain, knowledge in zip(plain_scores, source(samples(calibrated, views)), strict=True):
            torch.testing.assert_close(knowledge.image_scores, from_cache.apply(plain), rtol=0.02, atol=1e-4)
