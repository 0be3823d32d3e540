"""What distillation adds to a training step."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode

from .comparison import Comparison
from .networks import NETWORKS, networks_option
from .registry import Option, benchmark
from .timing import interleaved
from .training import StepRunner, network_configs
from .workspace import scenes_workspace

__all__ = ["measure_step"]


@benchmark(
    "step",
    "seconds of a training step: the plain student, and both stages of distillation with a live teacher",
    networks=networks_option(),
    batch_size=Option("images of a batch; 0: 2 with VGG16, 16 with EfficientNet-Lite0", quick=2, minimum=0),
    repetitions=Option("steps that are timed of each", quick=1),
)
def measure_step(
    networks: Sequence[str] = ("vgg16", "efficientnet-lite0"), batch_size: int = 0, repetitions: int = 5
) -> list[Comparison]:
    """Steps of the student without distillation and of both stages; batches are in memory, knowledge is not.

    Args:
        networks: in `NETWORKS`.
        batch_size: 0: the network's.
        repetitions: rounds of one step each.
    """
    comparisons = []
    with scenes_workspace(max(batch_size, *(NETWORKS[name].batch_size for name in networks))) as root:
        for name in networks:
            network = NETWORKS[name]
            configs = network_configs(network, root / name, batch_size)
            comparisons.append(_compare(network.title, configs, repetitions))
    return comparisons


def _compare(title: str, configs: dict[str, CfgNode], repetitions: int) -> Comparison:
    plain, size = configs["plain"], configs["teacher"].INPUT.SIZE_TEST
    calls = {"plain student": StepRunner(plain)}
    for stage, number in (("feature", 1), ("prediction", 2)):
        calls[f"stage {number}, live teacher"] = StepRunner(configs[stage])
    title = f"{title} at {plain.INPUT.SIZE_TEST} px (teacher {size}), batch {plain.SOLVER.IMS_PER_BATCH}"
    return Comparison(title, "s", interleaved(calls, repetitions, title=title))
