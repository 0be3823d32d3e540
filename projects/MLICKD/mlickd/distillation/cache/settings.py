"""Everything that determines the content of a knowledge cache, and whether a run may use it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from mlickd.data.build import open_proposals, proposals_exist
from mlickd.data.catalog import class_names
from mlickd.data.proposals.dataset_proposals import image_list_digest
from mlickd.distillation.request import KnowledgeRequest
from mlickd.errors import InputError
from mlickd.files import file_digest, require_file

__all__ = ["cache_settings", "check_settings", "settings_of"]

# Keys of the teacher's configuration that determine its outputs, apart from those of MODEL.
_OUTPUT_KEYS = (
    "INPUT.SIZE_TEST",
    "INPUT.FORMAT",
    "DATASETS.PROPOSALS.TOP_K",
    "DATASETS.PROPOSALS.MIN_SIDE",
    "KD.TEACHER.FLIP",
)


def cache_settings(
    cfg: CfgNode, teacher_cfg: CfgNode, dataset: str, records: Sequence[Mapping[str, Any]], request: KnowledgeRequest
) -> dict[str, Any]:
    """Return everything that determines the teacher's knowledge of a dataset, as a flat dict of JSON values.

    Args:
        cfg: configuration of the distillation.
        teacher_cfg: the teacher's configuration.
        dataset: name of the dataset.
        records: records of the dataset.
        request: what the cache holds, or must hold, in addition to the logits of all regions.

    Raises:
        InputError: the teacher's checkpoint or an image file is missing.
    """
    weights = teacher_cfg.MODEL.WEIGHTS
    require_file(weights, "KD.TEACHER.WEIGHTS", "train the teacher first, or give another path")
    settings = {
        "images": image_list_digest(records),
        # The teacher's classes; an unlabeled dataset may have others.
        "classes": class_names(cfg.DATASETS.TRAIN[0]),
        "teacher": file_digest(PathManager.get_local_path(weights)),
    }
    if proposals_exist(cfg, dataset):  # the cache has the boxes, so a machine without proposals can train with it
        settings["proposals"] = open_proposals(cfg, dataset).digest()
    settings |= {f"teacher.{key}": value for key, value in _flatten(teacher_cfg) if _determines_outputs(key)}
    settings |= {f"features.{layer}": cfg.KD.FEATURE.COMPARE for layer in request.region_layers}
    settings |= {f"maps.{kind}.{layer}": True for kind, layer in request.maps}
    if request.region_layers:
        settings |= {f"KD.REGIONS.{key}": value for key, value in cfg.KD.REGIONS.items()}
    return json.loads(json.dumps(settings))


def settings_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in the metadata of a shard, without what only describes the shard itself."""
    return {key: value for key, value in metadata.items() if key not in ("ids", "sha256")}


def check_settings(found: Mapping[str, Any], expected: Mapping[str, Any], source: str, remedy: str) -> None:
    """Check that settings have the expected values.

    Args:
        found: settings of a cache; other keys than those of ``expected`` do not matter.
        expected: settings that the run needs.
        source: path of the cache, for the message.
        remedy: what to do about other values, for the message.

    Raises:
        InputError: a value differs. The message names the keys.
    """
    differing = [key for key, value in expected.items() if key not in found or found[key] != value]
    if differing:
        values = [
            f"{key} {_shorten(found.get(key, 'missing'))}, not {_shorten(expected[key])}" for key in differing[:3]
        ]
        raise InputError(f"{source}: was made with {'; '.join(values)}; {remedy}")


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of nested dicts with their dotted names."""
    leaves = []
    for key, value in values.items():
        leaves += _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return leaves


def _determines_outputs(key: str) -> bool:
    return key in _OUTPUT_KEYS or (key.startswith("MODEL.") and key not in ("MODEL.DEVICE", "MODEL.WEIGHTS"))


def _shorten(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 24 else f"{text[:21]}..."
