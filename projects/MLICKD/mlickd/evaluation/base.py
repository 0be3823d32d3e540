"""What the evaluators share: one prediction per record, gathered over processes, and reports on disk."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from detectron2.evaluation.evaluator import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from mlickd.errors import InputError
from mlickd.files import write_json


class RecordEvaluator(DatasetEvaluator):
    """
    Base of evaluators that keep one prediction for each record of a dataset.

    Distributed samplers repeat images to give every process as many; a loader may lose some. :meth:`gather`
    therefore keeps the first prediction of each ``image_id`` and insists that no record is left without one.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | None = None,
        records: list[dict] | None = None,
        class_names: list[str] | None = None,
    ):
        """
        Args:
            dataset_name: registered dataset; it names the reports too.
            output_dir: where the reports go; None writes nothing.
            records: standard dataset dicts; by default those of ``dataset_name``.
            class_names: names of the C classes; by default those of ``dataset_name``.

        Raises:
            InputError: unknown dataset, no record, an image_id that appears twice.
        """
        if records is None or class_names is None:
            from mlickd.data import catalog

            records = catalog.dataset_records(dataset_name) if records is None else records
            class_names = catalog.class_names(dataset_name) if class_names is None else class_names
        self.dataset_name = dataset_name
        self.output_dir = output_dir
        self.records = list(records)
        self.class_names = list(class_names)
        self.image_ids = [str(record["image_id"]) for record in self.records]
        if not self.records:
            raise InputError(
                f"dataset '{dataset_name}' has no record, so there is nothing to evaluate; list its images"
            )
        if len(set(self.image_ids)) != len(self.image_ids):
            twice = Counter(self.image_ids).most_common(1)[0][0]
            raise InputError(f"dataset '{dataset_name}' has image_id '{twice}' twice: make image ids unique")
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._predictions: list[tuple[str, Any]] = []

    def add(self, image_id: str | int, prediction: Any) -> None:
        """Keep the (picklable) prediction for one image."""
        self._predictions.append((str(image_id), prediction))

    def gather(self) -> list | None:
        """
        Predictions of all processes in the order of ``self.records``; None on all but the main process.

        Raises:
            InputError: an image was scored that is not in the dataset, or one of the dataset was not.
        """
        gathered = comm.gather(self._predictions)
        if not comm.is_main_process():
            return None
        predictions: dict[str, Any] = {}
        for image_id, prediction in (pair for part in gathered for pair in part):
            predictions.setdefault(image_id, prediction)

        known = set(self.image_ids)
        unknown = [image_id for image_id in predictions if image_id not in known]
        missing = [image_id for image_id in self.image_ids if image_id not in predictions]
        for images, problem in ((unknown, "scored but not in"), (missing, "not scored but in")):
            if images:
                raise InputError(
                    f"{len(images)} images (first: '{images[0]}') were {problem} dataset "
                    f"'{self.dataset_name}': evaluate with the test loader of '{self.dataset_name}'"
                )
        return [predictions[image_id] for image_id in self.image_ids]

    def write_json(self, file_name: str, content: dict) -> None:
        """Write strict JSON into ``output_dir``; NaN becomes null."""
        write_json(self.output_path(file_name), content)

    def output_path(self, file_name: str) -> str:
        """Path of a file in ``output_dir``, which is created."""
        PathManager.mkdirs(self.output_dir)
        return os.path.join(self.output_dir, file_name)
