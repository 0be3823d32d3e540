"""Memory of training as the dataset grows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mlickd.errors import InputError

from .comparison import Comparison, Row
from .memory import own_memory, resident_together
from .networks import NETWORKS, config_file
from .registry import Option, benchmark
from .startup import measure_startup
from .synthetic import write_synthetic_coco

__all__ = ["measure_growth"]


@benchmark(
    "memory",
    "memory of trainer and loader workers as the dataset grows 1x, 10x, 100x",
    images=Option("of the largest dataset", quick=100, minimum=100),
    proposals=Option("of each image", quick=5),
    workers=Option("of the loader", quick=1, minimum=0),
)
def measure_growth(images: int = 82783, proposals: int = 500, workers: int = 2) -> list[Comparison]:
    """Resident memory after some batches, of the teacher's data: records, labels and proposals. No model is built.

    Args:
        images: of the largest dataset; the others have a tenth and a hundredth of them.
        proposals: of each image.
        workers: of the loader.

    Raises:
        InputError: the system does not tell what memory is resident.
    """
    config = config_file(NETWORKS["vgg16"].teacher)
    counts = [images // 100, images // 10, images]
    totals, own = [], []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            write_synthetic_coco(Path(folder), count, proposals)
            # Small views and batches: their pixels are not what grows.
            options = ["INPUT.SIZES_TRAIN", "(64,)", "SOLVER.IMS_PER_BATCH", "8", "MODEL.DEVICE", "cpu"]
            report = measure_startup(Path(folder), config, options, num_workers=workers, num_batches=10)
        processes = report["memory_later"].values()
        if not processes:
            raise InputError("memory: this system does not tell what memory of a process is resident; run it on Linux")
        totals.append(resident_together(processes))
        own.append(own_memory(processes))
    rows = [Row(f"{counts[0]:,} images", [totals[0] / 1e6])]
    for count, total, without_files in zip(counts[1:], totals[1:], own[1:], strict=True):
        each, each_own = ((b - a) / (count - counts[0]) for a, b in ((totals[0], total), (own[0], without_files)))
        details = {"for each further image": f"{each:,.0f} B", "of it no mapped file": f"{each_own:,.0f} B"}
        rows.append(Row(f"{count:,} images", [total / 1e6], details))
    return [Comparison(f"trainer and loader workers ({workers}), {proposals} proposals an image", "MB", rows)]
