"""A model for use: from photos to names and scores."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from mlickd.errors import InputError

from .images import Photo, photo_record
from .models import ImageScorer
from .prediction import Prediction

__all__ = ["Predictor"]


class Predictor:
    """
    Attributes:
        class_names: C names, in the order of the scores.
        thresholds: (C,) float32; a class is predicted where ``score >= threshold``.
        thresholds_from: where they come from, in words.
    """

    def __init__(
        self, model: ImageScorer, class_names: Sequence[str], thresholds: np.ndarray, thresholds_from: str = "given"
    ):
        """
        Args:
            model: reads photos and scores them.
            class_names, thresholds, thresholds_from: see above.
        """
        self._model = model
        self.class_names = tuple(class_names)
        self.thresholds = np.asarray(thresholds, dtype=np.float32)
        self.thresholds_from = thresholds_from

    def predict(self, images: Photo | Iterable[Photo], batch_size: int | None = None) -> Prediction | list[Prediction]:
        """
        Args:
            images: a photo, or several: paths, pictures of Pillow, or arrays (H, W, 3) uint8 RGB. A file is turned as
                its EXIF orientation says.
            batch_size: how many go through the model at once; None takes what suits it.

        Returns:
            Of one photo its prediction, of several a list.

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
        """Predictions as they come, in the order of the photos; of a photo that cannot be read, why.

        Args:
            images, batch_size: see :meth:`predict`.
        """
        size = batch_size or self._model.batch_size
        if size < 1:
            raise InputError(f"batch size {size}: is below 1; give 1 or more")
        with ThreadPoolExecutor(self._model.reading_threads) as pool:
            numbered = enumerate(images, start=1)
            # While a batch is scored, the next one is read.
            reading = deque(self._read_ahead(pool, numbered, 2 * size))
            while reading:
                batch = [reading.popleft().result() for _ in range(min(size, len(reading)))]
                reading.extend(self._read_ahead(pool, numbered, size))
                yield from self._score(batch)

    def scores(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """
        Args:
            images: N arrays (H, W, 3) uint8 RGB.

        Returns:
            (N, C) float32 probabilities.
        """
        values = [prediction.values for prediction in self.predict(list(images))]
        return np.stack(values) if values else np.empty((0, len(self.class_names)), np.float32)

    def _read_ahead(self, pool: ThreadPoolExecutor, numbered: Iterator, count: int) -> list[Future]:
        return [pool.submit(self._read, photo, number) for number, photo in islice(numbered, count)]

    def _read(self, photo: Photo, number: int) -> tuple[str, Any] | InputError:
        try:
            record = photo_record(photo, number)
            return record["image_id"], self._model.read(record)
        except InputError as error:
            return error

    def _score(self, batch: Sequence[tuple[str, Any] | InputError]) -> Iterator[Prediction | InputError]:
        samples = [read[1] for read in batch if not isinstance(read, InputError)]
        scored = iter(self._model.score(samples) if samples else ())
        for read in batch:
            if isinstance(read, InputError):
                yield read
            else:
                values, regions = next(scored)
                yield Prediction(read[0], self.class_names, values, self.thresholds, regions)
