"""From a finished run to exported files."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from detectron2.config import CfgNode

from mlickd.data.catalog import UnknownDatasetError
from mlickd.errors import InputError
from mlickd.evaluation.thresholds import THRESHOLDS_FILE, load_thresholds, read_thresholds
from mlickd.files import check_writable, file_digest, write_whole_file
from mlickd.modeling import MultiLabelClassifier
from mlickd.runs import check_has_learned, code_versions, data_record, load_run, run_class_names

from .graph import onnx_content, pt2_content, trace
from .metadata import ExportMetadata

__all__ = ["export_student", "run_metadata"]

logger = logging.getLogger(__name__)

_CONTENT = {".onnx": onnx_content, ".pt2": pt2_content}


def export_student(
    run: str, outputs: Sequence[str | os.PathLike[str]], *, preprocessing: bool = True
) -> tuple[CfgNode, MultiLabelClassifier, ExportMetadata]:
    """Write the student of a finished run into files, each of which is whole as soon as it is there.

    Args:
        run: folder of the run, its ``OUTPUT_DIR``.
        outputs: files to write, with the ending ``.onnx`` or ``.pt2``; their folders are created.
        preprocessing: whether the graph normalizes; see :class:`ExportMetadata`.

    Returns:
        The run's configuration, its student on the CPU, and what the files say of themselves.

    Raises:
        InputError: the run is not that of a finished student; an ending is unknown; a file cannot be written; a package
            of the extra ``export`` is missing.
    """
    for output in outputs:
        if Path(output).suffix.lower() not in _CONTENT:
            raise InputError(f"--output {output}: give a name that ends in {' or '.join(_CONTENT)}")
        check_writable(output)
    cfg, model = load_run(run)
    if not isinstance(model, MultiLabelClassifier):
        raise InputError(
            f"{run}: is a run of a {type(model).__name__}, which needs proposals; export the run of a student"
        )
    check_has_learned(cfg, run)
    model = model.cpu()
    metadata = run_metadata(cfg, run, preprocessing=preprocessing)
    program = trace(model, metadata)
    # The .pt2 last: writing it takes the example out of the program.
    for output in sorted(map(Path, outputs), key=lambda path: path.suffix.lower() == ".pt2"):
        content = _CONTENT[output.suffix.lower()](program, metadata)
        write_whole_file(output, content, "give another --output", parents=True)
    return cfg, model, metadata


def run_metadata(cfg: CfgNode, run: str, *, preprocessing: bool = True) -> ExportMetadata:
    """What the files of a run say of themselves.

    Thresholds are those that ``tools/tune_thresholds.py`` has left in the run's folder, else ``TEST.THRESHOLD``.

    Args:
        cfg: of the run, from :func:`mlickd.engine.load_run`.
        run: its folder.
        preprocessing: see :class:`ExportMetadata`.

    Raises:
        InputError: nobody knows the names of the classes, or the thresholds are not of this model.
    """
    names = run_class_names(cfg, run)
    thresholds, source = [cfg.TEST.THRESHOLD] * len(names), "TEST.THRESHOLD of the run, for all classes"
    tuned = os.path.join(run, THRESHOLDS_FILE)
    if os.path.isfile(tuned):
        thresholds = load_thresholds(run, names).tolist()
        on = read_thresholds(tuned)
        source = f"tuned for each class on {on.dataset} ({on.images} images, sha256 {on.data_sha256})"
    return ExportMetadata(
        class_names=tuple(names),
        thresholds=tuple(thresholds),
        thresholds_from=source,
        input_size=cfg.INPUT.SIZE_TEST,
        preprocessing=preprocessing,
        pixel_mean=tuple(map(float, cfg.MODEL.PIXEL_MEAN)),
        pixel_std=tuple(map(float, cfg.MODEL.PIXEL_STD)),
        channel_order=cfg.INPUT.FORMAT,
        provenance={
            "data": [_data_record(name) for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.UNLABELED)],
            "config": {"sha256": file_digest(os.path.join(run, "config.yaml"))},
            "checkpoint": {"sha256": file_digest(cfg.MODEL.WEIGHTS)},
            "versions": code_versions(),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        },
    )


def _data_record(name: str) -> dict:
    try:
        return data_record(name)
    except UnknownDatasetError:
        logger.warning("%s, which the run was trained on, is not here: the file has no digest of it", name)
        return {"name": name}
