from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.cached_scenes import CachedScenes
from mlickd.benchmarks.training import StepRunner, with_cache
from mlickd.engine.caching import make_cache
from mlickd.engine.performance import keep_freed_memory


def test_each_call_is_a_step_as_in_training(tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr("mlickd.benchmarks.training.keep_freed_memory", lambda: kept.append(keep_freed_memory()))
    cfg = CachedScenes.create(tmp_path).config("feature", "", "OUTPUT_DIR", str(tmp_path / "output"))
    cached = with_cache(cfg, tmp_path / "knowledge")
    make_cache(cached)
    step = StepRunner(cached, num_batches=1)
    assert len(kept) == 1
    student = step.trainer.model.student
    before = [parameter.clone() for parameter in student.parameters()]
    for _ in range(2):
        step()
    after = list(student.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
