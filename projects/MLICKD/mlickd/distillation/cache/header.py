"""What a knowledge cache was made from, and whether that is what a run asks for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.utils.file_io import PathManager

from mlickd.config import default_config
from mlickd.data.build import open_proposals, proposals_exist
from mlickd.data.catalog import class_names
from mlickd.data.proposals.generation import image_list_digest
from mlickd.distillation.request import KnowledgeRequest
from mlickd.distillation.teacher import load_teacher_config, region_rule, teacher_shapes
from mlickd.distillation.teacher_files import with_teacher_of
from mlickd.errors import InputError
from mlickd.files import file_digest, write_whole_file

__all__ = [
    "HEADER_FILE",
    "NO_ROOM",
    "describe_run",
    "differences",
    "read_json",
    "shard_header",
    "write_json",
]

HEADER_FILE = "header.json"
# What to do where a shard cannot be written.
NO_ROOM = "make room or choose another KD.CACHE, then give the same command again: it goes on where it was"
_FORMAT = 1
_WORDS = {
    "format": "another format",
    "images": "other images",
    "num_images": "another number of images",
    "classes": "other classes",
    "teacher": "another teacher checkpoint",
    "teacher_config": "another teacher configuration",
    "proposals": "other proposals",
    "features": "other settings of R' and its features",
    "maps": "other maps of the teacher",
    "mirrored": "another choice of mirrored views",
    "batch_size": "another --batch-size",
    "shard": "another shard",
}
# Of the others the values tell a reader nothing.
_WITH_VALUES = ("format", "num_images", "mirrored", "batch_size", "shard")
# Keys of the teacher's MODEL, or of all below them, that do not change what a trained teacher says of regions.
_NOT_OF_THE_OUTPUT = (
    # Where the model runs, and where it started from.
    "MODEL.DEVICE",
    "MODEL.WEIGHTS",
    "MODEL.BACKBONE.WEIGHTS",
    "MODEL.TIMM.PRETRAINED",
    "MODEL.WSDDN.INIT_STD",
    # What training alone asks for.
    "MODEL.BACKBONE.FREEZE_AT",
    "MODEL.BACKBONE.FREEZE_NORM",
    "MODEL.BACKBONE.FROZEN",
    "MODEL.OICR.IOU_THRESH",
    "MODEL.ROI_BOX_HEAD.DROPOUT",
    # Which detections are shown; regions are chosen by KD.REGIONS.
    "MODEL.ROI_HEADS.NMS_THRESH_TEST",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    # The plain classifier's.
    "MODEL.CLASSIFIER",
)
# Of the teacher's other keys, those that do.
_OF_THE_OUTPUT = (
    "INPUT.SIZE_TEST",
    "INPUT.FORMAT",
    "DATASETS.PROPOSALS.TOP_K",
    "DATASETS.PROPOSALS.MIN_SIDE",
    "KD.TEACHER.FLIP",
)


def describe_run(
    cfg: CfgNode, name: str, records: Sequence[Mapping[str, Any]], request: KnowledgeRequest
) -> dict[str, Any]:
    """All that decides what the teacher says of a dataset, as JSON holds it.

    Args:
        cfg: of the distillation, complete.
        name: of the dataset.
        records: its records.
        request: what is kept, or asked for, beside the logits of all regions.

    Returns:
        ``format``, ``images`` (digest of the list), ``num_images``, ``classes``, ``teacher`` (digest of its
        checkpoint), ``teacher_config``, ``proposals`` (digest of boxes and scores; None where they are not on this
        machine), ``features``: the rule of R' and s', where features are taken, and their shape by layer; or None; and
        ``maps``: the shapes of whole maps, by kind and layer.

    Raises:
        InputError: the teacher or its layers, the images or the proposals are missing.
    """
    cfg = with_teacher_of(cfg, name)
    teacher_cfg = load_teacher_config(cfg)
    return _as_json(
        {
            "format": _FORMAT,
            "images": image_list_digest(records),
            "num_images": len(records),
            # Those of the teacher; an unlabeled dataset may have others.
            "classes": class_names(cfg.DATASETS.TRAIN[0]),
            "teacher": _teacher_digest(cfg.KD.TEACHER.WEIGHTS),
            "teacher_config": _output_config(teacher_cfg),
            "proposals": open_proposals(cfg, name).digest() if proposals_exist(cfg, name) else None,
            "features": _feature_settings(cfg, teacher_cfg, request) if request.region_layers else None,
            "maps": _map_shapes(teacher_cfg, request),
        }
    )


def shard_header(
    description: Mapping[str, Any], shard: tuple[int, int], *, mirrored: bool, batch_size: int
) -> dict[str, Any]:
    """The header of one shard of the cache of a run, see :func:`describe_run`.

    The images that the teacher sees together are part of it: they may change the last bit of what it says.
    """
    return _as_json({**description, "shard": shard, "mirrored": mirrored, "batch_size": batch_size})


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """What ``found`` was made with and ``expected`` was not, in words; empty where they are equal.

    Only keys of ``expected`` are compared. Of the teacher's configuration a key that is missing has its default: what a
    later version adds leaves a cache as good as it was.
    """
    parts = []
    for key, value in expected.items():
        there = found.get(key, {} if key == "maps" else None)
        if key == "teacher_config":
            there, value = _with_defaults(there), _with_defaults(value)
        if there == value:
            continue
        details = []
        if key in _WITH_VALUES:
            details = [f"{_short(there)}, not {_short(value)}"]
        elif isinstance(value, dict) and isinstance(there, dict):
            ours, theirs = _flat(value), _flat(there)
            names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
            details = [f"{_short(n)} {_short(theirs.get(n))}, not {_short(ours.get(n))}" for n in names[:3]]
        parts.append(f"{_WORDS[key]} ({'; '.join(details)})" if details else _WORDS[key])
    return ", ".join(parts)


def read_json(path: Path) -> Any:
    """
    Raises:
        InputError: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise InputError(f"{path}: cannot be read ({reason}); make the cache again in another folder") from error


def write_json(path: Path, content: object) -> None:
    """Write a file that is whole as soon as it is there.

    Raises:
        InputError: it cannot be written.
    """
    write_whole_file(path, json.dumps(content, indent=1), NO_ROOM)


def _output_config(teacher_cfg: CfgNode) -> dict[str, Any]:
    values = _flat(teacher_cfg)
    return {key: value for key, value in sorted(values.items()) if _is_of_the_output(key)}


def _is_of_the_output(key: str) -> bool:
    if not key.startswith("MODEL."):
        return key in _OF_THE_OUTPUT
    return not any(key == other or key.startswith(f"{other}.") for other in _NOT_OF_THE_OUTPUT)


def _with_defaults(values: Any) -> Any:
    """The configuration of a header with the keys that it lacks, and without those that no longer count."""
    if not isinstance(values, dict):
        return values
    return _default_output_config() | {key: value for key, value in values.items() if _is_of_the_output(key)}


@cache
def _default_output_config() -> dict[str, Any]:
    return _as_json(_output_config(default_config()))


def _feature_settings(cfg: CfgNode, teacher_cfg: CfgNode, request: KnowledgeRequest) -> dict[str, Any]:
    head = teacher_cfg.MODEL.ROI_BOX_HEAD
    shapes = _layer_shapes(teacher_cfg, request.region_layers)
    if cfg.KD.FEATURE.COMPARE == "box_head":
        of_region = {layer: [head.FC_DIM] for layer in shapes}
    else:
        resolution = head.POOLER_RESOLUTION
        of_region = {layer: [shape.channels, resolution, resolution] for layer, shape in shapes.items()}
    return {"regions": region_rule(cfg), "compare": cfg.KD.FEATURE.COMPARE, "layers": of_region}


def _map_shapes(teacher_cfg: CfgNode, request: KnowledgeRequest) -> dict[str, dict[str, list[int]]]:
    """(channels, height, width) of one image's, by kind and layer."""
    shapes = _layer_shapes(teacher_cfg, [layer for _, layer in request.maps])
    sides = _map_sides(teacher_cfg, shapes) if shapes else {}
    maps: dict[str, dict[str, list[int]]] = {}
    for kind, layer in request.maps:
        channels = shapes[layer].channels if kind == "features" else 1
        maps.setdefault(kind, {})[layer] = [channels, *sides[layer]]
    return maps


def _layer_shapes(teacher_cfg: CfgNode, layers: Iterable[str]) -> dict[str, ShapeSpec]:
    shapes = teacher_shapes(teacher_cfg)
    for layer in layers:
        if layer not in shapes:
            raise InputError(
                f"KD.FEATURE.LAYERS: the teacher's backbone does not return {layer!r}; name one of {', '.join(shapes)}"
            )
    return {layer: shapes[layer] for layer in layers}


def _map_sides(teacher_cfg: CfgNode, layers: Iterable[str]) -> dict[str, list[int]]:
    """Height and width of the teacher's maps of its test views, found without computing them."""
    with torch.device("meta"):
        backbone = build_backbone(teacher_cfg).eval()
        side = -(-teacher_cfg.INPUT.SIZE_TEST // (backbone.size_divisibility or 1)) * (backbone.size_divisibility or 1)
        maps = backbone(torch.empty(1, 3, side, side))
    return {layer: list(maps[layer].shape[-2:]) for layer in layers}


def _flat(value: Any, prefix: str = "", depth: int = 8) -> dict[str, Any]:
    """The leaves of nested dicts by their dotted names; a value that is no dict has the name it was given."""
    if not isinstance(value, dict) or depth == 0:
        return {prefix: value}
    leaves: dict[str, Any] = {}
    for key, inner in value.items():
        leaves.update(_flat(inner, f"{prefix}.{key}" if prefix else str(key), depth - 1))
    return leaves


def _short(value: Any) -> str:
    """For a message of one line."""
    return " ".join(str(value).split())[:60]


def _as_json(value: Any) -> Any:
    """As it comes back from a file: tuples are lists there."""
    return json.loads(json.dumps(value))


def _teacher_digest(path: str) -> str:
    """Of the teacher's checkpoint."""
    if not PathManager.isfile(path):
        raise InputError(f"KD.TEACHER.WEIGHTS {path}: no such file; train the teacher first")
    return file_digest(PathManager.get_local_path(path))
