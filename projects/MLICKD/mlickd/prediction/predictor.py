"""Load a trained model and predict photos: files, Pillow images or arrays."""

from __future__ import annotations

import html
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.evaluation.evaluator import inference_context
from detectron2.modeling import build_model
from detectron2.structures import Instances
from PIL import Image
from torch import nn

from mlickd.data.build import build_inference_mapper, model_class
from mlickd.data.decoding import RecordImage, upright_rgb
from mlickd.data.views import View
from mlickd.errors import InputError
from mlickd.evaluation.thresholds import read_thresholds
from mlickd.export import ExportedClassifier, load_exported
from mlickd.modeling.checkpoint import check_fits, read_checkpoint
from mlickd.runs import check_has_learned, load_run, run_class_names, run_config, run_thresholds

__all__ = ["Photo", "Prediction", "Predictor", "load_model"]

# A path, a Pillow image, or an array (H, W, 3) uint8 RGB.
Photo = str | os.PathLike | Image.Image | np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The scores of one photo.

    Attributes:
        name: path of the photo as it was given, or "image 1", "image 2", ... for Pillow images and arrays.
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
        return [self.class_names[index] for index in self._ranked() if self.values[index] >= self.thresholds[index]]

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """Return names and scores of the best classes, with or without reaching their thresholds."""
        return [(self.class_names[index], float(self.values[index])) for index in self._ranked()[:count]]

    def _ranked(self) -> list[int]:
        return np.argsort(-self.values, kind="stable").tolist()

    def __repr__(self) -> str:
        found = ", ".join(f"{label} {self.scores[label]:.2f}" for label in self.labels)
        if not found:
            name, score = self.top(1)[0]
            found = f"no label; best {name} {score:.2f}"
        return f"<{type(self).__name__} {self.name}: {found}>"

    def _repr_html_(self) -> str:
        """Return a table with bars for a notebook: the labels, at least the best three classes."""
        labels = set(self.labels)
        rows = []
        for name, score in self.top(max(3, len(labels))):
            weight = "bold" if name in labels else "normal; color:#6b7280"
            bar = f"<div style='width:{100 * score:.0f}px;height:8px;background:#1a4fd0'></div>"
            cells = f"<td style='text-align:left;font-weight:{weight}'>{html.escape(name)}</td><td>{score:.2f}</td>"
            rows.append(f"<tr>{cells}<td>{bar}</td></tr>")
        return f"<table><caption>{html.escape(self.name)}</caption>{''.join(rows)}</table>"


class Predictor:
    """A model for use: from photos to names and scores.

    Attributes:
        class_names: C names, in the order of the scores.
        thresholds: (C,) float32; a class is predicted if ``score >= threshold``.
        thresholds_from: source of the thresholds, in words.
        batch_size: default number of photos that go through the model at once.
        reading_threads: number of photos that are read at once.
    """

    batch_size = 16
    reading_threads = 4
    # Subclasses define the way from a record to an input of the model, and from inputs to scores (C,) and regions.
    _input: Callable[[dict], Any]
    _outputs: Callable[[list[Any]], list[tuple[np.ndarray, Instances | None]]]

    def __init__(self, class_names: Sequence[str], thresholds: np.ndarray, thresholds_from: str):
        self.class_names = tuple(class_names)
        self.thresholds = np.asarray(thresholds, dtype=np.float32)
        self.thresholds_from = thresholds_from

    def predict(self, images: Photo | Iterable[Photo], batch_size: int | None = None) -> Prediction | list[Prediction]:
        """Predict one photo, or several.

        Args:
            images: paths, Pillow images, or arrays (H, W, 3) uint8 RGB. Files and Pillow images are turned upright
                according to their EXIF orientation.
            batch_size: number of photos that go through the model at once; None uses the model's default.

        Returns:
            For one photo its prediction, for several a list.

        Raises:
            InputError: a photo cannot be read.
        """
        one = isinstance(images, Photo)
        predictions = []
        for found in self.predict_each([images] if one else images, batch_size):
            if isinstance(found, InputError):
                raise found
            predictions.append(found)
        return predictions[0] if one else predictions

    def predict_each(self, images: Iterable[Photo], batch_size: int | None = None) -> Iterator[Prediction | InputError]:
        """Yield predictions in the order of the photos; for a photo that cannot be read, the error."""
        size = batch_size or self.batch_size
        numbered = enumerate(images, start=1)
        with ThreadPoolExecutor(self.reading_threads) as pool:

            def read_ahead(count: int) -> list[Future]:
                return [pool.submit(self._read, photo, number) for number, photo in islice(numbered, count)]

            # The next batch is read while this one is scored.
            reading = deque(read_ahead(2 * size))
            while reading:
                batch = [reading.popleft().result() for _ in range(min(size, len(reading)))]
                reading.extend(read_ahead(size))
                samples = [read[1] for read in batch if not isinstance(read, InputError)]
                outputs = iter(self._outputs(samples) if samples else ())
                for read in batch:
                    if isinstance(read, InputError):
                        yield read
                    else:
                        values, regions = next(outputs)
                        yield Prediction(read[0], self.class_names, values, self.thresholds, regions)

    def _read(self, photo: Photo, number: int) -> tuple[str, Any] | InputError:
        try:
            record = _photo_record(photo, number)
            return record["image_id"], self._input(record)
        except InputError as error:
            return error


def _photo_record(photo: Photo, number: int) -> dict:
    """Return the record of a photo: ``image_id``, the name of the photo, and its ``file_name`` or its ``pixels``."""
    if isinstance(photo, (str, os.PathLike)):
        return {"image_id": os.fspath(photo), "file_name": os.fspath(photo)}
    name = f"image {number}"
    try:
        if isinstance(photo, Image.Image):
            photo = np.array(upright_rgb(photo))
        RecordImage({"pixels": photo})  # checks shape and type
    except Exception as error:  # decoders fail in many ways on damaged data
        raise InputError(f"{name}: give a path, a Pillow image or an array (H, W, 3) of uint8 ({error})") from error
    return {"image_id": name, "pixels": photo}


class _RunPredictor(Predictor):
    """A model that training has left. It reads a photo as an evaluation does."""

    def __init__(self, cfg: CfgNode, model: nn.Module, *arguments: Any):
        super().__init__(*arguments)
        self._model = model
        self._input = build_inference_mapper(cfg)
        self.batch_size = cfg.TEST.IMS_PER_BATCH
        # Some proposal methods draw from the random generator of the process.
        self.reading_threads = 1 if model_class(cfg).is_detector else 4

    def _outputs(self, inputs: list[dict]) -> list[tuple[np.ndarray, Instances | None]]:
        with inference_context(self._model), torch.no_grad():
            outputs = [{key: value.to("cpu") for key, value in output.items()} for output in self._model(inputs)]
        # WSDDN's scores are sums, which may leave [0, 1] by rounding; the evaluation clips them, too.
        return [(output["image_scores"].float().clamp(0, 1).numpy(), output.get("instances")) for output in outputs]


class _ExportedPredictor(Predictor):
    """A student in an exported file. It reads a photo as its run does."""

    def __init__(self, exported: ExportedClassifier, *arguments: Any):
        super().__init__(*arguments)
        self._exported = exported

    def _input(self, record: dict) -> np.ndarray:
        file, view = RecordImage(record), View(self._exported.metadata.input_size)
        pixels, reduction = file.pixels(view.reduction(file.height, file.width))
        return view.pixels(pixels, file.height, file.width, reduction=reduction).permute(1, 2, 0).contiguous().numpy()

    def _outputs(self, inputs: list[np.ndarray]) -> list[tuple[np.ndarray, Instances | None]]:
        return [(scores, None) for scores in self._exported.scores(inputs)]


def load_model(
    source: str | os.PathLike[str],
    config: str | os.PathLike[str] | None = None,
    thresholds: float | Sequence[float] | str | os.PathLike[str] | None = None,
) -> Predictor:
    """Load a trained model, ready to predict.

    Photos are read and resized as in the evaluation. A teacher makes its own proposals and also returns ``regions``.

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
        source: folder of a finished run (its ``OUTPUT_DIR``), checkpoint (``.pth``), or exported student (``.onnx``).
        config: ``config.yaml`` of the run of a checkpoint, if it is not next to the checkpoint.
        thresholds: one for all classes, one for each class, or a ``thresholds.json``. The default of a run are the
            thresholds that ``tools/tune_thresholds.py`` has left with it, or else its ``TEST.THRESHOLD``; the default
            of an exported student are those in its file.

    Raises:
        InputError: the model is missing or damaged, its parts do not fit, or its class names are unknown.
    """
    path = Path(source).expanduser()
    is_exported = path.suffix.lower() == ".onnx"
    if config is not None and (path.is_dir() or is_exported):
        raise InputError(f"config {config}: {path} has its own; leave it out, or name a checkpoint")
    if is_exported:
        exported = load_exported(path)
        values = exported.thresholds, f"those in {path}"
        if thresholds is not None:
            values = _given_thresholds(thresholds, exported.class_names)
        return _ExportedPredictor(exported, exported.class_names, *values)
    if path.is_dir():
        folder = path
        cfg, model = load_run(path)
    else:
        config_file = path.parent / "config.yaml" if config is None else Path(config).expanduser()
        folder = config_file.parent
        cfg, model = _load_checkpoint(path, config_file)
    check_has_learned(cfg, path)
    names = run_class_names(cfg, folder)
    values = run_thresholds(cfg, folder, names) if thresholds is None else _given_thresholds(thresholds, names)
    return _RunPredictor(cfg, model, names, *values)


def _load_checkpoint(path: Path, config_file: Path) -> tuple[CfgNode, nn.Module]:
    content = read_checkpoint(str(path), "checkpoint")
    cfg = run_config(config_file, str(path))
    # The checkpoint of a stage of distillation also has the parameters of the distillers.
    student = {key[8:]: value for key, value in content.items() if key.startswith("student.")}
    model = build_model(cfg)
    check_fits(model, student or content, "checkpoint", str(path))
    model.load_state_dict(student or content)
    return cfg, model.eval()


def _given_thresholds(
    thresholds: float | Sequence[float] | str | os.PathLike[str], names: Sequence[str]
) -> tuple[np.ndarray, str]:
    """Return (C,) thresholds, and a text that names their source."""
    if isinstance(thresholds, (str, os.PathLike)):
        path = os.fspath(thresholds)
        stored = read_thresholds(path)
        stored.check(path, names)
        return np.array(stored.thresholds), f"of each class, from {path}"
    values = np.asarray(thresholds, dtype=np.float64)
    if values.shape not in ((), (len(names),)) or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"thresholds {thresholds}: give a number from 0 to 1, or one for each of {len(names)} classes")
    where = f"{float(values):g} for all classes" if values.ndim == 0 else "given for each class"
    return np.broadcast_to(values, (len(names),)), where
