"""A run goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.cached_scenes import CachedScenes
from mlickd.engine import Trainer, complete_config, load_config
from mlickd.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs"


def make_trainer(output: Path, *options: object) -> Trainer:
    settings = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)", "OUTPUT_DIR", str(output)]
    settings += ["MODEL.VGG.DEPTH", 11, "MODEL.VGG.NORM", "BN", "MODEL.VGG.WIDTH", 0.1, "INPUT.SIZES_TRAIN", "(32, 48)"]
    settings += ["SOLVER.MAX_ITER", 4, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.STEPS", "()"]
    settings += ["SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.WARMUP_ITERS", 1, "DATALOADER.NUM_WORKERS", 0]
    cfg = load_config(str(CONFIGS / "Base-Classifier.yaml"), [*settings, *options])
    complete_config(cfg)
    cfg.freeze()
    torch.manual_seed(0)
    return Trainer(cfg)


def finish(trainer: Trainer, resume: bool) -> dict[str, torch.Tensor]:
    trainer.resume_or_load(resume=resume)
    super(Trainer, trainer).train()
    return trainer.model.state_dict()


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("SOLVER.OPTIMIZER", "ADAMW", "SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.ACCUMULATE", 2),
        ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16", "MODEL.DEVICE", "cpu"),
    ],
    ids=["sgd", "adamw, clipped, in parts", "bfloat16"],
)
def test_a_run_stopped_at_a_checkpoint_ends_as_the_whole_run_does(
    options: tuple, tiny_scenes: Path, tmp_path: Path
) -> None:
    whole = finish(make_trainer(tmp_path / "whole", *options), resume=False)
    stopped = make_trainer(tmp_path / "stopped", *options)
    stopped.max_iter = 2
    finish(stopped, resume=False)
    resumed = make_trainer(tmp_path / "stopped", *options)
    result = finish(resumed, resume=True)
    assert resumed.start_iter == 2
    assert all(value.dtype != torch.bfloat16 for value in result.values())
    assert all(torch.equal(value, whole[name]) for name, value in result.items())


def make_distilling_trainer(scenes: CachedScenes, cache: Path, output: Path) -> Trainer:
    options = ["OUTPUT_DIR", str(output), "MODEL.VGG.NORM", "BN"]
    options += ["SOLVER.MAX_ITER", 4, "SOLVER.STEPS", (), "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.WARMUP_ITERS", 1]
    cfg = scenes.config("prediction", cache, *options)
    cfg.freeze()
    torch.manual_seed(0)
    return Trainer(cfg)


def test_stage_2_from_a_cache_ends_as_the_whole_run_does(tiny_scenes: Path, tmp_path: Path) -> None:
    scenes = CachedScenes.create(tmp_path / "scenes")
    cache = scenes.make("cache", features=False)
    whole = finish(make_distilling_trainer(scenes, cache, tmp_path / "whole"), resume=False)
    stopped = make_distilling_trainer(scenes, cache, tmp_path / "stopped")
    stopped.max_iter = 2
    half = {name: value.clone() for name, value in finish(stopped, resume=False).items()}
    resumed = make_distilling_trainer(scenes, cache, tmp_path / "stopped")
    result = finish(resumed, resume=True)
    assert resumed.start_iter == 2
    assert all(torch.equal(value, whole[name]) for name, value in result.items())
    assert not all(torch.equal(value, half[name]) for name, value in result.items())


def test_resuming_another_model_is_refused_with_its_keys(tiny_scenes: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.max_iter = 1
    finish(trainer, resume=False)
    other = make_trainer(tmp_path, "MODEL.VGG.DEPTH", 13)
    with pytest.raises(InputError, match=r"--resume .* missing: backbone.conv1_2"):
        other.resume_or_load(resume=True)
