"""How much of a training step is arithmetic that no implementation can leave out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mlickd.engine.caching import make_cache

from .comparison import Comparison, Row
from .networks import NETWORKS, networks_option
from .registry import Option, benchmark
from .timing import interleaved
from .training import StepRunner, network_configs, with_cache
from .workspace import scenes_workspace

__all__ = ["backward_convolution", "is_arithmetic", "measure_roofline"]

_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


@benchmark(
    "roofline",
    "share of a training step that is convolutions and matrix products, and what they reach of the machine's peak",
    networks=networks_option(),
    batch_size=Option("images of a batch; 0: 2 with VGG16, 16 with EfficientNet-Lite0", quick=2, minimum=0),
    repetitions=Option("steps that are timed of each", quick=1),
)
def measure_roofline(
    networks: Sequence[str] = ("vgg16", "efficientnet-lite0"), batch_size: int = 0, repetitions: int = 2
) -> list[Comparison]:
    """Steps of the teacher, the plain student and both stages, with the knowledge cache.

    Args:
        networks: in `NETWORKS`.
        batch_size: 0: the network's.
        repetitions: rounds of one step each.
    """
    peaks = _peaks(repetitions)
    comparisons = [peaks]
    peak = max(row.median for row in peaks.rows)
    for name in networks:
        network = NETWORKS[name]
        with scenes_workspace(batch_size or network.batch_size) as root:
            configs = network_configs(network, root / "output", batch_size)
            make_cache(with_cache(configs["feature"], root / "knowledge"), mirrored=False)
            configs |= {stage: with_cache(configs[stage], root / "knowledge") for stage in ("feature", "prediction")}
            names = {"plain": "plain student", "feature": "stage 1", "prediction": "stage 2", "teacher": "teacher"}
            calls = {text: StepRunner(configs[key], num_batches=1) for key, text in names.items()}
            title = f"{network.title}, batch {configs['plain'].SOLVER.IMS_PER_BATCH}"
            operations = {name: _count_operations(call) for name, call in calls.items()}  # and warm up
            rows = interleaved(calls, repetitions, warm_up=0, title=title)
            rows = [
                replace(row, details=_details(calls[row.name], operations[row.name] / row.median, peak)) for row in rows
            ]
            comparisons.append(Comparison(title, "s", rows))
    return comparisons


def is_arithmetic(operator: str) -> bool:
    """Whether the own time of an operator, by its name in a profile, is that of a convolution or a matrix product."""
    return operator.removeprefix("aten::") in _PRODUCTS or "conv" in operator


def backward_convolution(gradient: tuple, inputs: tuple, weight: tuple, *arguments: object, **_: object) -> int:
    """Floating-point operations of a backward convolution, from the shapes of its first three arguments.

    Each gradient that is wanted, of the input and of the weights, takes as many as the convolution itself.
    """
    *_, transposed, _, _, wanted = arguments
    positions = math.prod((inputs if transposed else gradient)[2:])
    return 2 * inputs[0] * positions * math.prod(weight) * sum(wanted[:2])


def _peaks(repetitions: int) -> Comparison:
    """GFLOP/s of products as large as the machine likes them."""
    matrix = torch.rand(2048, 2048)
    image, kernel = torch.rand(1, 256, 112, 112), torch.rand(256, 256, 3, 3)
    calls = {
        "matrix product, 2048 x 2048": lambda: matrix @ matrix,
        "3x3 convolution, 256 to 256 channels, 112 x 112": lambda: torch.conv2d(image, kernel, padding=1),
    }
    operations = [2 * 2048**3, 2 * 9 * 256 * 256 * 112 * 112]
    with torch.inference_mode():
        rows = interleaved(calls, repetitions, title="peak")
    rows = [
        Row(row.name, [count / seconds / 1e9 for seconds in row.values])
        for row, count in zip(rows, operations, strict=True)
    ]
    return Comparison("peak of the machine", "GFLOP/s", rows)


def _count_operations(step: Callable[[], None]) -> int:
    """Floating-point operations of the convolutions and matrix products of one step."""
    # torch's own count of the backward convolution takes no notice of groups, and is far too large for depthwise ones.
    corrected = {torch.ops.aten.convolution_backward: backward_convolution}
    with FlopCounterMode(display=False, custom_mapping=corrected) as counter:
        step()
    return counter.get_total_flops()


def _details(step: Callable[[], None], rate: float, peak: float) -> dict[str, str]:
    """Where the time of a step goes. ``rate`` is in FLOP/s, ``peak`` in GFLOP/s."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    own = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    total = sum(own.values())
    arithmetic = sum(value for key, value in own.items() if is_arithmetic(key)) / total
    others = sorted((value, key) for key, value in own.items() if not is_arithmetic(key))[-3:]
    rate /= 1e9
    return {
        "convolutions and products": f"{arithmetic:.0%} of the time",
        "GFLOP/s": f"{rate:.0f} ({rate / peak:.0%} of the peak)",
        "then": "; ".join(f"{key.removeprefix('aten::')} {value / total:.0%}" for value, key in reversed(others)),
    }
