"""A loss or gradient that is not finite stops the run and names the images."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from helpers.processes import forbidden_gathers, in_two_processes
from helpers.small_trainer import run_steps
from mlickd.engine.training_loop import TrainingLoop
from mlickd.errors import InputError

HUGE = 1e30  # finite, but its square is not


class Two(nn.Module):
    """A model with two losses and two parameters; the second loss has the square root of a parameter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.depth = nn.Parameter(torch.tensor(0.0))

    def forward(self, samples: list[dict]) -> dict[str, torch.Tensor]:
        first = sum(sample["value"] for sample in samples) / len(samples)
        root = sum((self.depth * sample.get("root", 0)).sqrt() if "root" in sample else 0.0 for sample in samples)
        return {"loss_label": self.weight * first, "loss_feature": self.depth * 0 + root}


def run(model: nn.Module, batches: list[list[dict]], **options) -> TrainingLoop:
    loop = TrainingLoop(model, batches, torch.optim.SGD(model.parameters(), lr=1e-32), **options)
    run_steps(loop, len(batches))
    return loop


def make_samples(*values: float) -> list[dict]:
    return [{"image_id": f"img{i}", "value": value} for i, value in enumerate(values)]


def test_a_loss_is_named_with_its_iteration_and_the_images_of_its_part() -> None:
    model, bad = Two(), float("nan")
    good = make_samples(1.0, 2.0, 3.0, 4.0)
    with pytest.raises(InputError) as caught:
        run(model, [good, make_samples(1.0, 2.0, bad, 4.0)], accumulation_steps=2)
    message = str(caught.value)
    assert message.startswith(f"iteration 1: loss_label is {bad} for images img2, img3; ")
    assert "\n" not in message and "SOLVER.BASE_LR" in message and "SOLVER.CLIP_GRADIENTS.ENABLED True" in message
    assert model.weight.item() == 2.0


def test_a_gradient_is_named_if_all_losses_are_finite() -> None:
    model = Two()
    batch = make_samples(1.0, 2.0)
    batch[1]["root"] = 1.0  # the slope of a square root at 0
    with pytest.raises(InputError, match=r"iteration 0: the gradient of depth .* images img0, img1; "):
        run(model, [batch], accumulation_steps=2)
    assert (model.weight.item(), model.depth.item()) == (2.0, 0.0)


def test_large_gradients_whose_norm_overflows_are_finite() -> None:
    model = Two()
    run(model, [make_samples(HUGE, HUGE)])
    assert model.weight.grad.item() == pytest.approx(HUGE)
    assert model.weight.item() == pytest.approx(2 - HUGE * 1e-32)


def test_an_overflow_in_float16_skips_a_step_and_halves_the_scale() -> None:
    model = Two()
    loop = run(model, [make_samples(1e36)], autocast_dtype=torch.float16)  # times the scale, it overflows float32
    assert model.weight.item() == 2.0
    assert loop.grad_scaler.get_scale() == 2**15
    batch = make_samples(1.0)
    batch[0]["root"] = 1.0
    with pytest.raises(InputError, match="iteration 30: the gradient of depth"):  # at every scale
        run(model, [batch] * 40, autocast_dtype=torch.float16)
    assert model.weight.item() == 2.0


def _diverge_in_process(values: list[list[float]], roots: list[str], folder: Path) -> None:
    rank = comm.get_rank()
    batch = make_samples(*values[rank])
    for sample in batch:
        sample["image_id"] = f"rank{rank}-{sample['image_id']}"
        if sample["image_id"] in roots:
            sample["root"] = 1.0
    model = Two()
    distributed = DistributedDataParallel(model)
    with forbidden_gathers():
        run(distributed, [make_samples(*[0.0] * len(batch))])
    run(distributed, [make_samples(HUGE if rank else 0.0)])
    before = model.weight.item()
    with pytest.raises(InputError) as caught:
        run(distributed, [batch])
    assert model.weight.item() == before
    (folder / f"message {rank}").write_text(str(caught.value))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "roots", "expected"),
    [
        # The summed gradients of both processes are not finite, but only one process has the images that cause it.
        ([[1.0, 2.0], [3.0, float("nan")]], [], "loss_label is nan for images rank1-img0, rank1-img1; "),
        ([[1.0], [3.0]], ["rank0-img0"], "the gradient of depth .* for images rank0-img0, rank1-img0; "),
    ],
    ids=["loss", "gradient"],
)
def test_all_processes_stop_with_the_same_message(values: list, roots: list, expected: str, tmp_path: Path) -> None:
    in_two_processes(_diverge_in_process, values, roots, tmp_path)
    first, second = (tmp_path / "message 0").read_text(), (tmp_path / "message 1").read_text()
    assert first == second
    assert re.match(f"iteration 0: {expected}", first)
