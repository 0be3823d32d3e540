"""Training steps of real trainers, on batches that are in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from mlickd.engine import Trainer
from mlickd.engine.performance import keep_freed_memory

from .networks import Network, save_teacher

__all__ = ["StepRunner", "network_configs", "with_cache"]


class _Batches:
    """Stands for a loader that is never waited for."""

    def __init__(self, batches: Sequence[list[dict]]):
        self.batches = batches

    def __iter__(self) -> Iterator[list[dict]]:
        # Samples are copied, because knowledge is added to them.
        return ([dict(sample) for sample in batch] for batch in cycle(self.batches))


class StepRunner:
    """Makes one training step at each call: knowledge where there is any, forward, backward, optimizer."""

    def __init__(self, cfg: CfgNode, num_batches: int = 2):
        """
        Args:
            cfg: completed; weights stay random.
            num_batches: read beforehand, and taken in turn.
        """
        keep_freed_memory()  # as train_net.py does
        self.trainer = Trainer(cfg)
        batches = list(islice(self.trainer.data_loader, num_batches))
        # As the hooks find it in training.
        self.trainer.iter = 0
        self.trainer._trainer.reset_data_loader(lambda: _Batches(batches))
        self.trainer.storage = EventStorage(0)
        with self.trainer.storage:
            self.trainer.before_train()

    def __call__(self) -> None:
        with self.trainer.storage:
            self.trainer.run_step()


def network_configs(network: Network, folder: Path, batch_size: int) -> dict[str, CfgNode]:
    """Configurations of ``teacher``, ``plain``, ``feature`` (stage 1) and ``prediction`` (stage 2).

    A teacher with random weights is written for both stages; without further options it is a live one.

    Args:
        network: whose files are taken.
        folder: for what they write.
        batch_size: 0: the network's.
    """
    options = {"SOLVER.IMS_PER_BATCH": batch_size or network.batch_size, "OUTPUT_DIR": str(folder / "teacher")}
    configs = {"teacher": network.config(network.teacher, options)}
    teacher = save_teacher(configs["teacher"], folder / "teacher_run")
    options["OUTPUT_DIR"] = str(folder / "plain")
    configs["plain"] = network.config(network.student, options)
    # MODEL.WEIGHTS has to be there for stage 2, but is not loaded: what weights are does not change the time.
    options |= {"OUTPUT_DIR": str(folder / "distilled"), "MODEL.WEIGHTS": str(teacher)}
    options["KD.TEACHER.WEIGHTS"] = str(teacher)
    for stage in ("feature", "prediction"):
        configs[stage] = network.config(network.distilled, options, stage)
    return configs


def with_cache(cfg: CfgNode, folder: Path) -> CfgNode:
    """A stage's configuration that reads a knowledge cache; :func:`mlickd.engine.caching.make_cache` makes it."""
    cfg = cfg.clone()
    cfg.KD.CACHE = str(folder)
    return cfg
