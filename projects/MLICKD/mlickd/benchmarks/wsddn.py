"""A training step of the teacher against a loop over the images."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from mlickd.engine import build_optimizer
from mlickd.engine.performance import keep_freed_memory

from .comparison import Comparison, Row
from .memory import peak_memory
from .networks import NETWORKS, networks_option
from .registry import Option, benchmark
from .timing import interleaved
from .workspace import scenes_workspace
from .wsddn_loop import PerImageWSDDN

__all__ = ["draw_batch", "measure_wsddn", "per_image_wsddn"]

_BATCHED, _LOOP, _LOOP_EACH = "one batch", "loop, backward once", "loop, backward for each image"


@benchmark(
    "wsddn",
    "seconds and peak memory of a training step of the teacher, against a loop over the images",
    networks=networks_option(),
    size=Option("side of the images in pixels", quick=64, minimum=32),
    batch_size=Option("images of a batch", quick=2),
    proposals=Option("of each image", quick=10),
    repetitions=Option("steps that are timed of each", quick=1),
)
def measure_wsddn(
    networks: Sequence[str] = ("vgg16", "efficientnet-lite0"),
    size: int = 320,
    batch_size: int = 2,
    proposals: int = 200,
    repetitions: int = 2,
) -> list[Comparison]:
    """Steps on random images and proposals, with the same layers and optimizer.

    Peak memory is that of a process of its own that makes two steps, above what it takes before them.

    Args:
        networks: in `NETWORKS`.
        size, batch_size, proposals: of a batch.
        repetitions: rounds of one step each.
    """
    comparisons = []
    with scenes_workspace(1, proposals=False):
        for name in networks:
            cfg = NETWORKS[name].config(NETWORKS[name].teacher, {})
            drawing = batch_size, size, proposals, cfg.MODEL.NUM_CLASSES
            title = f"{NETWORKS[name].title} at {size} px, batch {batch_size}, {proposals} proposals"
            rows = interleaved(_steps(cfg, drawing), repetitions, title=title)
            # The plain way comes first: what the others are compared with.
            rows = [rows[1], rows[2], rows[0]]
            comparisons.append(Comparison(title, "s", rows))
            peaks = [_peak_in_a_process(cfg, drawing, row.name) for row in rows]
            if None not in peaks:
                peaks = [Row(row.name, [peak / 1e6]) for row, peak in zip(rows, peaks, strict=True)]
                comparisons.append(Comparison(f"{title}, peak memory", "MB", peaks))
    return comparisons


def draw_batch(batch_size: int, size: int, proposals: int, classes: int) -> list[dict]:
    """Samples with random ``image``, ``proposals`` and two or three ``labels``."""
    generator = torch.Generator().manual_seed(0)
    batch = []
    for _ in range(batch_size):
        corners = torch.rand(proposals, 2, 2, generator=generator).sort(dim=1).values.flatten(start_dim=1)
        instances = Instances((size, size))
        # From the first half to the second: no box is thinner than the other.
        instances.proposal_boxes = Boxes((corners / 2 + corners.new_tensor([0, 0, 0.5, 0.5])) * size)
        instances.objectness = torch.rand(proposals, generator=generator)
        image = torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, classes, (3,), generator=generator).unique().tolist()
        batch.append({"image": image, "proposals": instances, "labels": labels})
    return batch


def per_image_wsddn(cfg: CfgNode, model: torch.nn.Module) -> PerImageWSDDN:
    """The loop on the layers of a model."""
    head = cfg.MODEL.ROI_BOX_HEAD
    return PerImageWSDDN(model, head.POOLER_TYPE, head.POOLER_RESOLUTION, head.POOLER_SAMPLING_RATIO)


def _steps(cfg: CfgNode, drawing: tuple[int, int, int, int]) -> dict[str, Callable[[], None]]:
    """A training step in each way, of one and the same model."""
    keep_freed_memory()  # as train_net.py does
    batch = draw_batch(*drawing)
    model = build_model(cfg).train()
    loop = per_image_wsddn(cfg, model)
    optimizer = build_optimizer(cfg, model)

    def step(gradients: Callable[[], object]) -> Callable[[], None]:
        def call() -> None:
            optimizer.zero_grad()
            gradients()
            optimizer.step()

        return call

    return {
        _BATCHED: step(lambda: sum(model(batch).values()).backward()),
        _LOOP: step(lambda: loop.gradients(batch, backward_each=False)),
        _LOOP_EACH: step(lambda: loop.gradients(batch, backward_each=True)),
    }


def _peak_in_a_process(cfg: CfgNode, drawing: tuple[int, int, int, int], name: str) -> int | None:
    """Bytes; None where the system does not tell."""
    # A server that has imported everything once forks a process for each measurement.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_peak, cfg, drawing, name, torch.get_num_threads()).result()


def _peak(cfg: CfgNode, drawing: tuple[int, int, int, int], name: str, threads: int) -> int | None:
    torch.set_num_threads(threads)
    step = _steps(cfg, drawing)[name]
    before = peak_memory(os.getpid())
    for _ in range(2):  # the optimizer's state is there from the first step on
        step()
    after = peak_memory(os.getpid())
    return None if after is None else after - before
