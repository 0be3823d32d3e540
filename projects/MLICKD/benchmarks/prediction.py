"""Speed and memory of predictions for a folder of photos, and the speed of other loops and of each part on its own."""

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from mlickd import load_model
from mlickd.decoding import RecordImage, max_reduction
from mlickd.environment import keep_freed_memory
from mlickd.export.onnx_export import export_student
from mlickd.prediction.predictor import Predictor

from .inference import BareClassifier
from .measurement import BenchmarkResult, time_interleaved
from .settings import network_config, synthetic_datasets, write_run

_SIZES = {"camera": (4000, 3000), "web": (1280, 960)}
_DISTINCT = 8  # number of different photos of a size; further photos are links to them
_BATCH = 16
# Predicts the photos of standard input like the command `predict`, then prints the peak of resident memory in KB.
_PEAK = """
import logging, re, sys
from mlickd import load_model
from mlickd.environment import keep_freed_memory
keep_freed_memory()
logging.getLogger("mlickd").setLevel(logging.ERROR)
for _ in load_model(sys.argv[1]).predict_each(sys.stdin.read().splitlines()):
    pass
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def measure_prediction(images: int = 1000, repetitions: int = 3) -> list[BenchmarkResult]:
    """Photos per second of a student that predicts camera photos (12 megapixels) and web photos (1.2 megapixels).

    The student is EfficientNet-Lite0 at 128 pixels with random weights, in PyTorch and as an exported file. A plain
    loop reads and resizes each photo with Pillow and runs timm's network on it. The limits are decoding the JPEG files
    at the same scale on all cores, and running timm's network on batches; the slower limit has the ratio 1. On a CPU,
    both need the same cores, so one after the other is the limit of the machine. The start of Python
    is not included. On Linux, the peak memory of a process for a tenth of the camera photos and for all is also
    measured.

    Args:
        images: number of photos
        repetitions: timed repetitions
    """
    keep_freed_memory()  # as the command `predict` does
    comparisons = []
    with synthetic_datasets(_DISTINCT, proposals=False) as root, torch.inference_mode():
        cfg = network_config("efficientnet-lite0", "cls", OUTPUT_DIR=str(root / "run"))
        write_run(cfg, root / "run")
        export_student(root / "run", root / "student.onnx")
        student, exported = load_model(root / "run"), load_model(root / "student.onnx")
        network, side = BareClassifier(cfg).eval(), cfg.INPUT.SIZE_TEST
        pixels = torch.zeros(_BATCH, 3, side, side, dtype=torch.uint8)
        candidates = {
            "decoding": lambda photos: decode_photos(photos, side),
            "network": lambda photos: [network(pixels) for _ in range(0, len(photos), _BATCH)],
            "plain loop": lambda photos: predict_one_by_one(photos, network, side),
            "PyTorch": lambda photos: predict_photos(student, photos),
            "exported": lambda photos: predict_photos(exported, photos),
        }
        sources = sorted((root / "benchmark").rglob("*.*g"))[:_DISTINCT]
        photos = {kind: write_photos(sources, root / kind, size, images) for kind, size in _SIZES.items()}
        for kind, paths in photos.items():
            for candidate in candidates.values():
                candidate(paths[:_BATCH])
            calls = {name: partial(candidate, paths) for name, candidate in candidates.items()}
            timed = time_interleaved(f"{images:,} {kind} photos", calls, repetitions, warm_up=0)
            values = {name: [images / seconds for seconds in values] for name, values in timed.values.items()}
            slower, faster = sorted(("decoding", "network"), key=lambda name: np.median(values[name]))
            both = [images / (a + b) for a, b in zip(timed.values[slower], timed.values[faster], strict=True)]
            limits = {slower: values[slower], faster: values[faster], "decoding, then network": both}
            comparisons.append(replace(timed, unit="photos/s", values=limits | values))
        models = {"PyTorch": root / "run", "exported": root / "student.onnx"} if sys.platform == "linux" else {}
        for name, model in models.items():
            counts = sorted({max(1, images // 10), images})
            peaks = {f"{count:,}": [_peak_memory(model, photos["camera"][:count])] for count in counts}
            comparisons.append(BenchmarkResult(f"memory, {name}, camera photos", "MB", peaks))
    return comparisons


def _peak_memory(model: Path, photos: Sequence[str]) -> float:
    """Return the peak memory in MB of a process that predicts photos."""
    command, text = [sys.executable, "-c", _PEAK, str(model)], "\n".join(photos)
    process = subprocess.run(command, input=text, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    return int(process.stdout) * 1024 / 1e6


def write_photos(sources: Sequence[Path], folder: Path, size: tuple[int, int], count: int) -> list[str]:
    """Write ``count`` JPEG files of ``size`` (width, height) that show the source images with noise; return the paths.

    The noise gives them about the number of bytes per pixel of a photo.
    """
    folder.mkdir()
    generator = np.random.default_rng(0)
    paths = [folder / f"{number:05d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if number < len(sources):
            with Image.open(sources[number]) as image:
                pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float32)
            pixels += generator.normal(0, 6, pixels.shape).astype(np.float32)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        else:
            os.link(paths[number % len(sources)], path)
    return list(map(str, paths))


def decode_photos(photos: Iterable[str], side: int) -> None:
    """Decode JPEG files with all cores at the smallest scale that is sufficient for views of ``side`` pixels."""

    def decode(photo: str) -> None:
        file = RecordImage({"file_name": photo})
        file.decode(max_reduction(file.height, file.width, side))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, photos))


def predict_one_by_one(photos: Iterable[str], network: nn.Module, side: int) -> list[torch.Tensor]:
    """Read and resize each photo with Pillow, and return its probabilities."""
    results = []
    for photo in photos:
        with Image.open(photo) as image:
            pixels = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
        results.append(network(torch.tensor(pixels).permute(2, 0, 1)[None]))
    return results


def predict_photos(predictor: Predictor, photos: Sequence[str]) -> None:
    """Predict all photos like the command `predict`."""
    for _ in predictor.predict_each(photos):
        pass
