"""The same seed gives the same run with any number of loader workers."""

from pathlib import Path

import pytest
import torch

from helpers.forked_runs import content_digest
from helpers.run_kinds import KINDS, RunKinds
from helpers.small_trainer import finish
from mlickd.engine import Trainer


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", "")  # `RunKinds.create` sets it
        yield RunKinds.create(tmp_path_factory.mktemp("kinds"))


def train(kinds: RunKinds, kind: str, output: Path, *options: object) -> str:
    short = ["SOLVER.MAX_ITER", 4, "SOLVER.STEPS", (3,), "TEST.EVAL_PERIOD", 0, "DATASETS.TEST", ()]
    cfg = kinds.config(kind, output, *short, *options)
    torch.manual_seed(cfg.SEED)
    finish(Trainer(cfg))
    return content_digest(output / "model_final.pth")


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_workers_does_not_change_a_run(kind: str, kinds: RunKinds, tmp_path: Path) -> None:
    first = train(kinds, kind, tmp_path / "first")
    assert train(kinds, kind, tmp_path / "workers", "DATALOADER.NUM_WORKERS", 2) == first
    if kind == "student":
        for number, option in enumerate((("SEED", 4), ("MODEL.CLASSIFIER.DROPOUT", 0.0))):
            assert train(kinds, kind, tmp_path / f"{number}", *option) != first, option
