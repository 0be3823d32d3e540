"""One training step with a whole batch, in parts, and in mixed precision."""

import copy
from pathlib import Path

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from torch import nn

from helpers.small_models import make_batch, save_teacher, student_config, teacher_config, with_knowledge
from helpers.small_trainer import run_steps
from mlickd.engine import build_optimizer
from mlickd.engine.training_loop import TrainingLoop, seed_iteration

MODELS = ("teacher", "feature", "prediction")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def make_model(kind: str, checkpoint: Path) -> tuple[nn.Module, list[dict]]:
    """Return a teacher or the student of a stage, without dropout, and a batch for it."""
    if kind == "teacher":
        cfg = teacher_config()
        cfg.MODEL.ROI_BOX_HEAD.DROPOUT = 0.0
        # The scores of an untrained teacher are almost equal, so its gradients are almost zero.
        cfg.MODEL.WSDDN.INIT_STD = 1.0
        batch = [s | {"image": s["teacher_image"], "proposals": s["teacher_proposals"]} for s in make_batch(5)]
    else:
        cfg = student_config(checkpoint, kind)
        batch = with_knowledge(cfg, 5)
        for knowledge in (sample["knowledge"] for sample in batch):
            knowledge.features = {layer: f.half() for layer, f in knowledge.features.items()}  # as from the cache
    torch.manual_seed(0)
    return build_model(cfg), batch


def step(model: nn.Module, batch: list[dict], kind: type[SimpleTrainer] = TrainingLoop, **options) -> tuple[dict, dict]:
    """Run a step of a copy of ``model``; return its losses and gradients."""
    model = copy.deepcopy(model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    losses = run_steps(kind(model, [batch], torch.optim.SGD(parameters, lr=0.1), **options))
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_parts_have_the_losses_and_gradients_of_the_whole_batch(kind: str, parts: int, checkpoint: Path) -> None:
    model, batch = make_model(kind, checkpoint)
    whole_losses, whole = step(model, batch, SimpleTrainer)
    losses, gradients = step(model, batch, accumulation_steps=parts)
    assert losses == pytest.approx(whole_losses, rel=1e-5)
    largest = max(gradient.abs().max().item() for gradient in whole.values())
    assert largest > 0
    torch.testing.assert_close(gradients, whole, rtol=1e-3, atol=1e-6 * largest)


class Scale(nn.Module):
    """A model with one weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, samples: list[int]) -> dict[str, torch.Tensor]:
        return {"loss": self.weight * sum(samples) / len(samples)}


@pytest.mark.parametrize("kind", MODELS)
def test_bfloat16_is_close_to_float32_and_parameters_stay_float32(kind: str, checkpoint: Path) -> None:
    model, batch = make_model(kind, checkpoint)
    types = set()
    for name, module in model.named_modules():
        if name.endswith("conv1_1"):
            module.register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    exact_losses, exact = step(model, batch)
    assert types == {torch.float32}
    losses, gradients = step(model, batch, autocast_dtype=torch.bfloat16)
    assert types == {torch.float32, torch.bfloat16}
    assert losses == pytest.approx(exact_losses, rel=0.03)
    assert losses != exact_losses
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
    together = [torch.cat([g.flatten() for g in found.values()]) for found in (gradients, exact)]
    assert torch.cosine_similarity(*together, dim=0) > 0.98
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {loss.dtype for loss in model.train()(batch).values()} == {torch.float32}


def test_the_scale_of_float16_gradients_is_part_of_the_checkpoint() -> None:
    loops = []
    for precision in (torch.float16, torch.float16, None):
        model = Scale()
        loops.append(TrainingLoop(model, [[1]], torch.optim.SGD(model.parameters(), lr=0.1), autocast_dtype=precision))
        loops[-1].iter = 7
    before, after, plain = loops
    initial = after.grad_scaler.get_scale()
    after.load_state_dict(plain.state_dict())
    assert after.grad_scaler.get_scale() == initial
    before.grad_scaler.load_state_dict(before.grad_scaler.state_dict() | {"scale": 512.0, "_growth_tracker": 3})
    after.load_state_dict(before.state_dict())
    assert after.grad_scaler.state_dict() == before.grad_scaler.state_dict() and after.grad_scaler.get_scale() == 512.0
    plain.load_state_dict(before.state_dict())
    assert not plain.grad_scaler.is_enabled()


@pytest.mark.parametrize(("parts", "precision"), [(1, None), (2, None), (1, torch.float16)])
def test_the_gradient_of_the_whole_batch_is_clipped_without_its_scale(parts: int, precision) -> None:
    cfg = teacher_config()
    cfg.merge_from_list(["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "value"])
    cfg.merge_from_list(["SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 2.0, "SOLVER.BASE_LR", 1.0, "SOLVER.WEIGHT_DECAY", 0.0])
    cfg.merge_from_list(["SOLVER.LAST_LAYER_LR_FACTOR", 1.0])
    model = Scale()
    run_steps(
        TrainingLoop(model, [[9, -1]], build_optimizer(cfg, model), accumulation_steps=parts, autocast_dtype=precision)
    )
    assert model.weight.item() == pytest.approx(1 - 2), "the gradient is 4; in parts, 9 and -1"


def test_dropout_differs_between_iterations_and_seeds() -> None:
    def dropped(seed: int, iteration: int) -> torch.Tensor:
        seed_iteration(seed, iteration)
        return torch.nn.functional.dropout(torch.ones(64))

    assert torch.equal(dropped(0, 1), dropped(0, 1))
    for other in (dropped(0, 2), dropped(1, 1), dropped(1, 0)):
        assert not torch.equal(dropped(0, 1), other)
