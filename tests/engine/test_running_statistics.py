"""Precise statistics of batch normalization."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.small_trainer import finish, make_trainer

PRECISE = ("TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 3, "MODEL.CLASSIFIER.DROPOUT", 0.5)


@pytest.mark.parametrize(("period", "first"), [(2, 3), (3, 3), (0, 0)], ids=["in step", "once more at the end", "end"])
def test_they_are_of_the_batches_that_belong_to_the_iteration(
    period: int, first: int, tiny_scenes: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, *PRECISE, "TEST.EVAL_PERIOD", period)
    result = finish(trainer, resume=False)
    loader = trainer.build_train_loader(trainer.cfg)
    sums, squares, count = 0, 0, 0
    for iteration in range(first, first + 3):
        batch = [loader.dataset[item] for item in loader.batch_sampler.batch(iteration)]
        images = trainer.model.preprocess([sample["image"] for sample in batch]).tensor
        conv = trainer.model.backbone.conv1_1
        values = torch.nn.functional.conv2d(images, conv.weight, conv.bias, padding=1).detach().double()
        sums, squares = sums + values.sum(dim=(0, 2, 3)), squares + values.square().sum(dim=(0, 2, 3))
        count += values[:, 0].numel()
    mean = sums / count
    torch.testing.assert_close(result["backbone.conv1_1.norm.running_mean"].double(), mean, rtol=1e-4, atol=1e-4)
    variance = squares / count - mean.square()
    torch.testing.assert_close(result["backbone.conv1_1.norm.running_var"].double(), variance, rtol=1e-3, atol=1e-3)
