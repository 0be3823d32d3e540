from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from helpers.small_models import teacher_config
from mlickd.benchmarks.wsddn import _steps, draw_batch, per_image_wsddn
from mlickd.engine.performance import keep_freed_memory


@pytest.mark.parametrize("backward_each", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        ["MODEL.WSDDN.SCORE_WEIGHTING", "score"],
        ["MODEL.WSDDN.SCORE_WEIGHTING", "affine", "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlign"],
        ["MODEL.WSDDN.SCORE_WEIGHTING", "none", "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignV2"],
    ],
)
def test_the_loop_has_the_same_gradients(options: list[str], backward_each: bool) -> None:
    cfg = teacher_config()
    cfg.merge_from_list(["MODEL.ROI_BOX_HEAD.DROPOUT", 0.0, *options])
    torch.manual_seed(0)
    model = build_model(cfg).train()
    batch = draw_batch(3, 64, 8, cfg.MODEL.NUM_CLASSES)
    loss = sum(model(batch).values())
    loss.backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    assert all(gradient.abs().max() > 0 for gradient in ours.values())

    model.zero_grad()
    loop = per_image_wsddn(cfg, model)
    assert sum(loop(sample) for sample in batch).item() / len(batch) == pytest.approx(loss.item(), rel=1e-4)
    loop.gradients(batch, backward_each=backward_each)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, ours[name], rtol=1e-3, atol=1e-6, msg=name)


def test_a_batch_is_drawn_as_asked() -> None:
    batch = draw_batch(2, 64, 9, 5)
    for sample in batch:
        boxes = sample["proposals"].proposal_boxes.tensor
        assert sample["image"].shape == (3, 64, 64) and len(boxes) == 9
        assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.min() >= 0 and boxes.max() <= 64
        assert set(sample["labels"]) <= set(range(5)) and sample["labels"]


def test_freed_memory_is_kept_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr("mlickd.benchmarks.wsddn.keep_freed_memory", lambda: kept.append(keep_freed_memory()))
    cfg = teacher_config()
    for step in _steps(cfg, (1, 64, 8, cfg.MODEL.NUM_CLASSES)).values():
        step()
    assert len(kept) == 1
