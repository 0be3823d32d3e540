"""What distillation adds to a training step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from mlickd.engine.caching import make_cache

from .comparison import Comparison, Target
from .networks import NETWORKS, networks_option
from .registry import Option, benchmark
from .timing import interleaved
from .training import StepRunner, network_configs, with_cache
from .workspace import scenes_workspace

__all__ = ["measure_step"]

_PLAIN, _CACHE, _LIVE = "plain student", "stage {}, knowledge cache", "stage {}, live teacher"


@benchmark(
    "step",
    "seconds of a training step: the plain student, and both stages with the knowledge cache and with a live teacher",
    networks=networks_option(),
    batch_size=Option("images of a batch; 0: 2 with VGG16, 16 with EfficientNet-Lite0", quick=2, minimum=0),
    repetitions=Option("steps that are timed of each", quick=1),
)
def measure_step(
    networks: Sequence[str] = ("vgg16", "efficientnet-lite0"), batch_size: int = 0, repetitions: int = 3
) -> list[Comparison]:
    """Steps of Detectron2's loop: knowledge of a batch, forward, backward, optimizer. Images are in memory.

    Args:
        networks: in `NETWORKS`.
        batch_size: 0: the network's.
        repetitions: rounds of one step each.
    """
    comparisons = []
    for name in networks:
        network = NETWORKS[name]
        with scenes_workspace(batch_size or network.batch_size) as root:
            configs = network_configs(network, root / "output", batch_size)
            comparisons.append(_compare(network.title, configs, root / "knowledge", repetitions))
    return comparisons


def _compare(title: str, configs: dict[str, CfgNode], cache: Path, repetitions: int) -> Comparison:
    stages = {1: configs["feature"], 2: configs["prediction"]}
    cached = {number: with_cache(cfg, cache) for number, cfg in stages.items()}
    make_cache(cached[1], mirrored=False)  # takes as long to read
    calls = {_PLAIN: StepRunner(configs["plain"])}
    calls |= {_CACHE.format(number): StepRunner(cfg) for number, cfg in cached.items()}
    calls |= {_LIVE.format(number): StepRunner(cfg) for number, cfg in stages.items()}
    targets = [Target(_CACHE.format(1), _PLAIN, 1.3), Target(_CACHE.format(2), _PLAIN, 1.05)]
    if configs["plain"].MODEL.BACKBONE.NAME == "build_vgg_backbone":
        targets += [Target(_LIVE.format(n), _CACHE.format(n), 5, at_least=True) for n in stages]
    size, teacher_size = (configs[key].INPUT.SIZE_TEST for key in ("plain", "teacher"))
    title = f"{title} at {size} px (teacher {teacher_size}), batch {configs['plain'].SOLVER.IMS_PER_BATCH}"
    return Comparison(title, "s", interleaved(calls, repetitions, title=title), targets)
