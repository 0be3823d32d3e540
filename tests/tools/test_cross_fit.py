"""Cross-fitting through its command line, and the configuration of its student."""

import shutil
from pathlib import Path

import pytest
import torch

from mlickd.distillation import KnowledgeRequest
from mlickd.distillation.cache import CachedKnowledge, make_cache
from mlickd.distillation.teacher_config import load_teacher_config
from mlickd.engine import check_inputs, finalize_config, load_config

CONFIGS = Path(__file__).parents[2] / "configs" / "scenes"
SMALL = ["MODEL.BACKBONE.WEIGHTS", "", "INPUT.SIZES_TRAIN", "(48,)", "INPUT.SIZE_TEST", 48, "MODEL.DEVICE", "cpu"]
SMALL += ["SOLVER.MAX_ITER", 2, "SOLVER.WARMUP_ITERS", 1, "SOLVER.IMS_PER_BATCH", 4, "DATALOADER.NUM_WORKERS", 0]
SMALL += ["SOLVER.CHECKPOINT_PERIOD", 1, "DATASETS.PROPOSALS.TOP_K", 10]


@pytest.mark.slow
def test_teachers_have_not_seen_images_of_their_knowledge(tiny_scenes, tmp_path: Path, call_tool, monkeypatch) -> None:
    shutil.copytree(tiny_scenes / "tiny", tmp_path / "datasets" / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    output = tmp_path / "output"
    arguments = ["--config-file", CONFIGS / "wsd.yaml", "--kd-config", CONFIGS / "kd.yaml", "--dataset", "tiny_train"]
    arguments += ["--parts", 2, "--output", output, *SMALL]
    result = call_tool("cross_fit", *arguments)
    assert result.status == 0, result.err
    made = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file() and path.name != "kd.yaml"}
    assert call_tool("cross_fit", *arguments).out == result.out
    assert {path: path.stat().st_mtime_ns for path in made} == made, "nothing is done twice"

    *_, last = result.out.splitlines()
    method = last.removeprefix("Train the student with: --config-file ")
    cfg = load_config(method, ["DATASETS.TEST", "('tiny_test',)"], "feature")
    finalize_config(cfg)
    check_inputs(cfg)
    parts = ("tiny_train@1of2", "tiny_train@2of2")
    assert cfg.DATASETS.TRAIN == parts
    weights = [torch.load(load_teacher_config(cfg, part).MODEL.WEIGHTS, weights_only=True)["model"] for part in parts]
    assert any(not torch.equal(value, weights[1][name]) for name, value in weights[0].items())

    # An earlier checkpoint is also a teacher, with the configuration next to it.
    early = load_config(method, ["DATASETS.TEST", "('tiny_test',)"], "prediction")
    early.KD.TEACHER.WEIGHTS = early.KD.TEACHER.WEIGHTS.replace("model_final", "model_0000000")
    early.KD.CACHE, early.MODEL.NUM_CLASSES = str(tmp_path / "early"), 20
    make_cache(early, KnowledgeRequest(), mirrored=False)
    caches = [cache for used in (cfg, early) for cache in CachedKnowledge(used, KnowledgeRequest()).caches.values()]
    assert len({cache.settings["teacher"] for cache in caches}) == 4
