"""A run goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from helpers.cached_scenes import CachedScenes
from helpers.small_trainer import finish, make_trainer
from mlickd.engine import Trainer
from mlickd.engine.training_loop import seed_iteration
from mlickd.errors import InputError


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("SOLVER.OPTIMIZER", "ADAMW", "SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.ACCUMULATE", 2),
        ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16", "MODEL.DEVICE", "cpu"),
        ("MODEL.CLASSIFIER.DROPOUT", 0.5, "SOLVER.ACCUMULATE", 2, "SEED", 7),
        ("MODEL.CLASSIFIER.DROPOUT", 0.5, "INPUT.RANDOM_CROP.ENABLED", True, "INPUT.COLOR_JITTER.BRIGHTNESS", 0.5),
        ("TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 2, "TEST.EVAL_PERIOD", 1),
    ],
    ids=[
        "sgd",
        "adamw, clipped, in parts",
        "bfloat16",
        "dropout",
        "dropout and augmentation without a seed",
        "precise statistics",
    ],
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


def make_distilling_trainer(scenes: CachedScenes, cache: Path, output: Path, *more: object) -> Trainer:
    options = ["OUTPUT_DIR", str(output), "MODEL.VGG.NORM", "BN"]
    options += ["SOLVER.MAX_ITER", 4, "SOLVER.STEPS", (), "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.WARMUP_ITERS", 1]
    cfg = scenes.config("prediction", cache, *options, *more)
    cfg.freeze()
    torch.manual_seed(0)
    return Trainer(cfg)


@pytest.mark.parametrize(
    "options",
    [(), ("TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 2, "TEST.EVAL_PERIOD", 1)],
    ids=["running statistics", "precise statistics"],
)
def test_stage_2_from_a_cache_ends_as_the_whole_run_does(options: tuple, tiny_scenes: Path, tmp_path: Path) -> None:
    scenes = CachedScenes.create(tmp_path / "scenes")
    cache = scenes.make("cache", features=False)
    whole = finish(make_distilling_trainer(scenes, cache, tmp_path / "whole", *options), resume=False)
    stopped = make_distilling_trainer(scenes, cache, tmp_path / "stopped", *options)
    stopped.max_iter = 2
    half = {name: value.clone() for name, value in finish(stopped, resume=False).items()}
    resumed = make_distilling_trainer(scenes, cache, tmp_path / "stopped", *options)
    result = finish(resumed, resume=True)
    assert resumed.start_iter == 2
    assert all(torch.equal(value, whole[name]) for name, value in result.items())
    assert not all(torch.equal(value, half[name]) for name, value in result.items())


def test_what_is_dropped_out_differs_between_iterations_and_seeds(tiny_scenes: Path, tmp_path: Path) -> None:
    def dropped(seed: int, iteration: int) -> torch.Tensor:
        seed_iteration(seed, iteration)
        return torch.nn.functional.dropout(torch.ones(64))

    assert torch.equal(dropped(0, 1), dropped(0, 1))
    for other in (dropped(0, 2), dropped(1, 1), dropped(1, 0)):
        assert not torch.equal(dropped(0, 1), other)


def test_a_finished_run_is_resumed_to_be_evaluated_once_more(tiny_scenes: Path, tmp_path: Path) -> None:
    def final_line() -> dict:
        (*_, line) = map(json.loads, (tmp_path / "metrics.json").read_text().splitlines())
        return line

    finish(make_trainer(tmp_path, "TENSORBOARD.IMAGES", 0), resume=False)
    # As a kill leaves it before the last file, and within the evaluation.
    expected, checkpoint = final_line(), (tmp_path / "model_final.pth")
    weights = torch.load(checkpoint, weights_only=True)["model"]
    checkpoint.unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    count = len((tmp_path / "metrics.json").read_text().splitlines())
    with (tmp_path / "metrics.json").open("a") as file:
        file.write('{"iteration": 4, "multilabel/mA')
    finish(make_trainer(tmp_path, "TENSORBOARD.IMAGES", 0), resume=True)
    assert final_line() == expected and expected["iteration"] == 4
    assert len((tmp_path / "metrics.json").read_text().splitlines()) == count
    again = torch.load(checkpoint, weights_only=True)["model"]
    assert all(torch.equal(value, again[name]) for name, value in weights.items())


def test_a_run_that_starts_anew_forgets_the_one_before(tiny_scenes: Path, tmp_path: Path) -> None:
    finish(make_trainer(tmp_path), resume=False)
    assert (tmp_path / "metrics.json").read_text()
    trainer = make_trainer(tmp_path)
    trainer.resume_or_load(resume=False)
    assert not trainer.checkpointer.has_checkpoint(), "killed now, it starts from the beginning"
    assert not (tmp_path / "metrics.json").read_text()


def test_figures_of_an_evaluation_are_there_before_the_checkpoint_behind_it(tiny_scenes: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "TEST.EVAL_PERIOD", 2, "SOLVER.MAX_ITER", 6)
    seen = {}
    save = trainer.checkpointer.save

    def look_and_save(name: str, **rest: object) -> None:
        seen[name] = (tmp_path / "metrics.json").read_text()
        save(name, **rest)

    trainer.checkpointer.save = look_and_save
    finish(trainer, resume=False)
    lines = [json.loads(line) for line in seen["model_0000003"].splitlines()]
    assert [line["iteration"] for line in lines if "multilabel/mAP" in line] == [1, 3]


def test_resuming_another_model_is_refused_with_its_keys(tiny_scenes: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.max_iter = 1
    finish(trainer, resume=False)
    other = make_trainer(tmp_path, "MODEL.VGG.DEPTH", 13)
    with pytest.raises(InputError, match=r"--resume .* missing: backbone.conv1_2"):
        other.resume_or_load(resume=True)
