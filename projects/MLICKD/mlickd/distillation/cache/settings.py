"""The settings that determine the content of a knowledge cache, and the check that they match."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from mlickd.config_files import config_items
from mlickd.data.build import configured_proposals, open_proposals
from mlickd.data.catalog import class_names
from mlickd.data.proposals.store import image_list_digest
from mlickd.distillation.knowledge_request import KnowledgeRequest
from mlickd.errors import InputError
from mlickd.files import file_digest, require_file

# Prefixes of the keys that determine the teacher's outputs, and keys that do not.
_OUTPUT_KEYS = ("MODEL.", "INPUT.SIZE_TEST", "INPUT.FORMAT", "DATASETS.PROPOSALS.TOP_K")
_OTHER_KEYS = ("MODEL.DEVICE", "MODEL.WEIGHTS", "MODEL.BACKBONE.FEATURE_CACHE_MIB")


def cache_settings(
    cfg: CfgNode, teacher_cfg: CfgNode, dataset: str, records: Sequence[Mapping[str, Any]], request: KnowledgeRequest
) -> dict[str, Any]:
    """Return the settings that determine the teacher's outputs for a dataset, as JSON values by name.

    Args:
        cfg: configuration of the distillation.
        teacher_cfg: configuration of the teacher.
        dataset: name of the dataset.
        records: records of the dataset.
        request: features and maps in the cache, in addition to the logits of all regions.

    Raises:
        InputError: the teacher's checkpoint or an image file is missing.
    """
    weights = teacher_cfg.MODEL.WEIGHTS
    require_file(weights, "KD.TEACHER.WEIGHTS", "train the teacher first, or give another path")
    settings = {
        "images": image_list_digest(records),
        # The classes of the teacher; an unlabeled dataset may have other classes.
        "classes": class_names(cfg.DATASETS.TRAIN[0]),
        "teacher": file_digest(weights),
        "KD.TEACHER.FLIP": cfg.KD.TEACHER.FLIP,
    }
    # The cache contains the boxes, so a machine without the proposals can train with it.
    if configured_proposals(cfg, dataset).exists():
        settings["proposals"] = open_proposals(cfg, dataset).digest
    for key, value in config_items(teacher_cfg):
        if key.startswith(_OUTPUT_KEYS) and key not in _OTHER_KEYS:
            settings[f"teacher.{key}"] = value
    settings |= {f"features.{layer}": cfg.KD.FEATURE.COMPARE for layer in request.region_layers}
    settings |= {f"maps.{kind}.{layer}": True for kind, layer in request.maps}
    if request.region_layers:
        settings |= {f"KD.REGIONS.{key}": value for key, value in cfg.KD.REGIONS.items()}
    return json.loads(json.dumps(settings))


def check_settings(found: Mapping[str, Any], expected: Mapping[str, Any], source: Path, remedy: str) -> None:
    """Check that a cache has the expected settings; it may have more settings.

    Raises:
        InputError: a value differs. The message has the keys, the path ``source`` of the cache, and the remedy.
    """
    differing = [key for key, value in expected.items() if key not in found or found[key] != value]
    if differing:
        values = [f"{key} {found.get(key, 'missing')!s:.24}, not {expected[key]!s:.24}" for key in differing[:3]]
        raise InputError(f"{source}: was made with {'; '.join(values)}; {remedy}")
