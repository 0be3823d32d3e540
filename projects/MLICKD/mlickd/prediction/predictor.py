"""Predictions of a trained model for photos: files, Pillow images or arrays.

This module does not import Detectron2 or PyTorch, because exported students also run without them.
"""

from __future__ import annotations

import html
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mlickd.decoding import read_square, upright_rgb
from mlickd.errors import InputError
from mlickd.export import load_exported
from mlickd.export.hub_folder import find_hub_folder, load_hub_folder
from mlickd.thresholds import read_thresholds

if TYPE_CHECKING:
    from detectron2.structures import Instances

_TRACK, _MARK = "position:relative;width:14em;max-width:45vw;background:#8884", "width:3px;background:currentColor"
# A path, a Pillow image, or an array (H, W, 3) uint8 RGB.
Photo = str | os.PathLike | Image.Image | np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The scores of one photo.

    Attributes:
        name: given path of the photo, or "image 1", "image 2", ... for Pillow images and arrays.
        class_names: C names.
        values: (C,) float32 probabilities, in the order of the names.
        thresholds: (C,) float32; a class is predicted if ``value >= threshold``.
        regions: for a teacher, Instances with ``pred_boxes`` in pixels of the upright photo, ``scores`` and
            ``pred_classes``; None for a student.
    """

    name: str
    class_names: tuple[str, ...]
    values: np.ndarray
    thresholds: np.ndarray
    regions: Instances | None = None

    @cached_property
    def scores(self) -> dict[str, float]:
        """The score of every class by its name, in the order of the classes."""
        return dict(zip(self.class_names, self.values.tolist(), strict=True))

    @cached_property
    def labels(self) -> list[str]:
        """Names of the classes that reach their thresholds, best first."""
        reached = dict(zip(self.class_names, self.values >= self.thresholds, strict=True))
        return [name for name, _ in self.top(None) if reached[name]]

    def top(self, count: int | None = 3) -> list[tuple[str, float]]:
        """Return names and scores of the best classes, at any score; ``None`` returns all classes."""
        ranked = np.argsort(-self.values, kind="stable")[:count]
        return [(self.class_names[index], float(self.values[index])) for index in ranked]

    def __repr__(self) -> str:
        labels = ", ".join(f"{label} {self.scores[label]:.2f}" for label in self.labels)
        found = labels or "no label; best {} {:.2f}".format(*self.top(1)[0])
        return f"<{type(self).__name__} {self.name}: {found}>"

    def _repr_html_(self) -> str:
        """Return an HTML table of the labels and the best three classes, with bars and marks at the thresholds."""
        rows, thresholds = [], dict(zip(self.class_names, self.thresholds, strict=True))
        for rank, (name, score) in enumerate(self.top(None)):
            if rank >= 3 and name not in self.labels:
                continue
            weight = "bold" if name in self.labels else "normal; color:#6b7280"
            bar = f"<div style='width:{score:.0%};height:8px;background:#1a4fd0'></div>"
            mark = f"<div style='position:absolute;top:-3px;left:{thresholds[name]:.0%};height:14px;{_MARK}'></div>"
            cells = f"<td style='text-align:left;font-weight:{weight}'>{html.escape(name)}</td><td>{score:.2f}</td>"
            rows.append(f"<tr>{cells}<td><div style='{_TRACK}'>{bar}{mark}</div></td></tr>")
        return f"<table><caption>{html.escape(self.name)}</caption>{''.join(rows)}</table>"


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained model that predicts photos.

    Attributes:
        class_names: C names, in the order of the scores.
        thresholds: (C,) float32; a class is predicted if ``score >= threshold``.
        thresholds_from: source of the thresholds, in words.
        read: function that turns the record of an image into an input of the model.
        run: function that turns inputs into the scores (C,) and the regions of each image.
        batch_size: default number of photos that go through the model at once.
        reading_threads: number of photos that are read at once.
        finds_regions: whether the model is a teacher, whose predictions have ``regions``.
        compute_maps: function that turns an input into the activation maps (C, H, W) of a student; None for a teacher
            and an exported student.
    """

    class_names: tuple[str, ...]
    thresholds: np.ndarray
    thresholds_from: str
    read: Callable[[dict], Any]
    run: Callable[[list[Any]], list[tuple[np.ndarray, Instances | None]]]
    batch_size: int = 16
    reading_threads: int = 4
    finds_regions: bool = False
    compute_maps: Callable[[Any], np.ndarray] | None = None

    def predict(self, images: Photo | Iterable[Photo], batch_size: int | None = None) -> Prediction | list[Prediction]:
        """Predict one photo, or several.

        Args:
            images: paths, Pillow images, or arrays (H, W, 3) uint8 RGB. Files and Pillow images are turned upright
                according to their EXIF orientation.
            batch_size: number of photos that go through the model at once; None uses the model's default.

        Returns:
            The prediction of one photo, or a list for several photos.

        Raises:
            InputError: a photo cannot be read.
        """
        single = isinstance(images, Photo)
        predictions = []
        for found in self.predict_each([images] if single else images, batch_size):
            if isinstance(found, InputError):
                raise found
            predictions.append(found)
        return predictions[0] if single else predictions

    def predict_each(self, images: Iterable[Photo], batch_size: int | None = None) -> Iterator[Prediction | InputError]:
        """Yield the predictions in the order of the photos, or the error of a photo that cannot be read."""
        size = batch_size or self.batch_size
        numbered = enumerate(images, start=1)
        with ThreadPoolExecutor(self.reading_threads) as pool:

            def start_reading() -> list[Future]:
                return [pool.submit(self._read, photo, number) for number, photo in islice(numbered, size)]

            reading = deque([start_reading(), start_reading()])
            while batch := [future.result() for future in reading.popleft()]:
                reading.append(start_reading())  # two batches ahead, while the model runs
                samples = [read[1] for read in batch if not isinstance(read, InputError)]
                outputs = iter(self.run(samples) if samples else ())
                for read in batch:
                    if isinstance(read, InputError):
                        yield read
                    else:
                        values, regions = next(outputs)
                        yield Prediction(read[0], self.class_names, values, self.thresholds, regions)

    def activation_maps(self, image: Photo) -> dict[str, np.ndarray]:
        """Return the class activation map (H, W) of each class, in units of the logits. It covers the whole photo.

        Raises:
            InputError: the photo cannot be read, or the model has no maps (teacher, exported student, own model,
                pooling ``fc``).
        """
        if self.compute_maps is None:
            raise InputError("activation maps need the checkpoint of a student, not a teacher or an exported file")
        read = self._read(image, 1)
        if isinstance(read, InputError):
            raise read
        return dict(zip(self.class_names, self.compute_maps(read[1]), strict=True))

    def _read(self, photo: Photo, number: int) -> tuple[str, Any] | InputError:
        """Return the name of a photo and the input of the model, or the error of a photo that cannot be read."""
        is_path = isinstance(photo, (str, os.PathLike))
        name = os.fspath(photo) if is_path else f"image {number}"
        record = {"image_id": name, "file_name": name}
        if not is_path:
            try:
                record["pixels"] = np.asarray(upright_rgb(photo) if isinstance(photo, Image.Image) else photo)
            except Exception as error:  # decoders raise many types of errors on corrupt images
                return InputError(f"{name}: {error}")
        try:
            return name, self.read(record)
        except InputError as error:
            return error if is_path else InputError(f"{name}: {error}")


def load_model(
    source: str | os.PathLike[str],
    config: str | os.PathLike[str] | None = None,
    thresholds: float | Sequence[float] | str | os.PathLike[str] | None = None,
) -> Predictor:
    """Load a trained model, which reads and resizes photos like an evaluation.

    A teacher generates proposals and also returns ``regions``. An exported student gets pixels that differ by rounding,
    because Pillow resizes them. An ``.onnx`` student needs neither Detectron2 nor PyTorch. A ``model.safetensors``
    student needs PyTorch and timm.

    Examples:
        >>> from mlickd import load_model
        >>> model = load_model("output/quickstart/seed1/distilled/prediction")
        >>> prediction = model.predict("photo.jpg")
        >>> prediction.labels                          # classes that reach their thresholds, best first
        ['cup', 'ball']
        >>> prediction.top(3)                          # the best three, at any score
        [('cup', 0.91), ('ball', 0.66), ('key', 0.31)]
        >>> [found.labels for found in model.predict(["photo.jpg", "another.jpg"])]
        [['cup', 'ball'], []]

    Args:
        source: folder of a finished run (its ``OUTPUT_DIR``) or of a seed, output of ``quickstart`` or ``compare``,
            checkpoint (``.pth``), exported student (``.onnx``), or Hugging Face model folder of a student, or its name
            ``user/name`` on the Hub, which is downloaded.
        config: ``config.yaml`` of the run of a checkpoint, if it is not next to the checkpoint.
        thresholds: one for all classes, one for each class, or a ``thresholds.json``. Default of a run: the thresholds
            that ``mlickd tune-thresholds`` wrote, or else its ``TEST.THRESHOLD``. Default of an exported student: the
            thresholds in its file.

    Raises:
        InputError: the model is missing or corrupt, its files do not fit each other, or its class names are unknown.
    """
    path = Path(os.path.expanduser(source))
    hub_folder = find_hub_folder(source)
    is_exported = hub_folder is not None or path.suffix.lower() == ".onnx"
    if config is not None and (path.is_dir() or is_exported):
        raise InputError(f"config {config}: {path} already has a configuration; leave out config, or name a checkpoint")
    if is_exported:
        exported = load_hub_folder(hub_folder) if hub_folder else load_exported(path)
        thresholds_from = f"{exported.metadata.thresholds_from} (from {path})"
        names, default_thresholds = exported.class_names, lambda: (exported.thresholds, thresholds_from)
        parts = {
            "read": partial(read_square, side=exported.metadata.input_size),
            "run": lambda views: [(scores, None) for scores in exported.predict_scores(np.stack(views))],
        }
    else:
        from mlickd import registration  # noqa: F401, first: it imports Detectron2 with care

        from .trained_models import load_trained_model

        names, default_thresholds, parts = load_trained_model(path, config)
    values, source_of_values = default_thresholds() if thresholds is None else _given_thresholds(thresholds, names)
    return Predictor(tuple(names), np.asarray(values, dtype=np.float32), source_of_values, **parts)


def _given_thresholds(
    thresholds: float | Sequence[float] | str | os.PathLike[str], names: Sequence[str]
) -> tuple[Sequence[float], str]:
    """Return given thresholds as (C,), and a text that names their source."""
    if isinstance(thresholds, (str, os.PathLike)):
        path = os.fspath(thresholds)
        stored = read_thresholds(path)
        stored.check(path, names)
        return stored.thresholds, f"for each class, from {path}"
    try:
        values = np.asarray(thresholds, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.array(np.nan)
    if values.shape not in ((), (len(names),)) or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"thresholds {thresholds}: give a number from 0 to 1, or one for each of {len(names)} classes")
    source = f"{float(values):g} for all classes" if values.ndim == 0 else "given for each class"
    return np.broadcast_to(values, len(names)), source
