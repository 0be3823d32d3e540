"""Time of a training step with and without distillation."""

from collections.abc import Sequence

from mlickd.distillation.cache import make_cache

from .measurement import BenchmarkResult, time_interleaved
from .settings import BATCH_SIZES, TrainingStep, network_config, synthetic_datasets, write_run


def measure_step(
    networks: Sequence[str] = ("vgg16", "efficientnet-lite0"), batch_size: int | None = None, repetitions: int = 3
) -> list[BenchmarkResult]:
    """Seconds of a training step: the baseline, and both stages with the knowledge cache and with a live teacher.

    Args:
        networks: networks to measure
        batch_size: images of a batch (default: 2 for VGG16, 16 for EfficientNet-Lite0)
        repetitions: timed steps of each candidate
    """
    comparisons = []
    for network in networks:
        count = batch_size or BATCH_SIZES[network]
        with synthetic_datasets(count) as root:
            options = {"SOLVER__IMS_PER_BATCH": count, "OUTPUT_DIR": str(root / "output")}
            teacher, baseline = (network_config(network, kind, **options) for kind in ("wsd", "cls"))
            options["KD__METHOD_STAGES"] = ("feature", "prediction")
            options["KD__TEACHER__WEIGHTS"] = write_run(teacher, root / "teacher")
            stages = [network_config(network, "kd", stage, **options) for stage in ("feature", "prediction")]
            cached = [cfg.clone() for cfg in stages]
            for cfg in cached:
                cfg.KD.CACHE = str(root / "knowledge")
            make_cache(cached[0], mirrored=False)  # mirrored views are read at the same speed
            calls = {"baseline": TrainingStep(baseline)}
            calls |= {f"stage {i}, knowledge cache": TrainingStep(cfg) for i, cfg in enumerate(cached, 1)}
            calls |= {f"stage {i}, live teacher": TrainingStep(cfg) for i, cfg in enumerate(stages, 1)}
            sizes = f"{baseline.INPUT.SIZE_TEST} px (teacher {teacher.INPUT.SIZE_TEST} px)"
            comparisons.append(time_interleaved(f"{network} at {sizes}, batch {count}", calls, repetitions))
    return comparisons
