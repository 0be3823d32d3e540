"""The same seed gives the same run, whatever the number of loader workers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.forked_runs import content_digest
from helpers.run_kinds import KINDS, RunKinds
from mlickd.engine import Trainer


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        # Both are set by what makes the data.
        patch.setenv("DETECTRON2_DATASETS", "")
        patch.setenv("MLICKD_CACHE", "")
        yield RunKinds.create(tmp_path_factory.mktemp("kinds"))


def train(kinds: RunKinds, kind: str, output: Path, *options: object) -> str:
    cfg = kinds.config(kind, output, "TEST.EVAL_PERIOD", 0, "DATASETS.TEST", (), *options)
    torch.manual_seed(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return content_digest(output / "model_final.pth")


@pytest.mark.parametrize("kind", ["teacher", "stage 2 live"])
def test_a_run_ends_bit_by_bit_the_same(kind: str, kinds: RunKinds, tmp_path: Path) -> None:
    assert kind in KINDS
    first = train(kinds, kind, tmp_path / "first")
    for workers in (0, 1, 2):
        same = train(kinds, kind, tmp_path / f"{workers} workers", "DATALOADER.NUM_WORKERS", workers)
        assert same == first, f"with {workers} workers"
    assert train(kinds, kind, tmp_path / "other", "SEED", 4) != first
