"""The files of one shard of a knowledge cache.

A shard is a folder of plain NumPy arrays, which are mapped into memory, and two JSON files::

    header.json             what the shard was made from, see `header`
    ids.json                the N image ids, sorted
    done.npy                uint8 (N,)            1 where an image is complete
    image_sizes.npy         int32 (N, 2)          height and width in pixels
    region_offsets.npy      int64 (N + 1,)        where the regions of each image start; M in all
    boxes.npy               float32 (M, 4)        x0, y0, x1, y1 in pixels of the image
    class_logits.npy        float16 (V, M, C)     both streams of all regions in each of the V stored views; shifted so
    detection_logits.npy    float16 (V, M, C)     that the largest is 0, per region and per class and image

and, with features, room for R' of every image, S places in all: as many as an image has regions, but at most TOP_K::

    selected.npy            int32 (V, S)          index of the region in its image
    selected_counts.npy     int32 (V, N)          places used of an image
    weights.npy             float32 (V, S)        s'
    proposal_weights.npy    float32 (V, S)        factors before the box head; where features are behind it
    map_sizes.npy           int32 (N, L, 2)       height and width of the teacher's maps
    features_<layer>.npy    float16 (V, S, ...)   one for each of the L layers

and, where whole maps are kept, of the whole image::

    maps_<kind>_<layer>.npy  float16 (V, N, ...)  (D, H, W) of each

View 0 is the whole image at the teacher's size, view 1 the same mirrored. A softmax does not see the shift of its
logits, and 16 bits are the finest near 0, where the large probabilities are.
"""

from __future__ import annotations

import os
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlickd.errors import InputError

__all__ = [
    "IDS_FILE",
    "ArraySpec",
    "allocate",
    "array_path",
    "array_specs",
    "map_array",
    "map_array_name",
    "selected_offsets",
    "shard_folder",
    "shard_length",
]

IDS_FILE = "ids.json"


@dataclass(frozen=True)
class ArraySpec:
    """Type and shape of an array."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Of its values."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def shard_folder(cache: str | os.PathLike[str], dataset: str, shard: tuple[int, int]) -> Path:
    """Where shard (number from 1, count) of a dataset is kept."""
    return Path(cache) / dataset / f"shard-{shard[0]}-of-{shard[1]}"


def shard_length(num_images: int, shard: tuple[int, int]) -> int:
    """Images in a shard: every ``count``-th."""
    return len(range(shard[0] - 1, num_images, shard[1]))


def selected_offsets(header: Mapping[str, Any], region_offsets: np.ndarray) -> np.ndarray:
    """(N + 1,) where the places for R' of each image start."""
    counts = np.diff(region_offsets)
    top_k = header["features"]["regions"]["top_k"]
    return np.concatenate(([0], np.cumsum(np.minimum(counts, top_k) if top_k > 0 else counts)))


def array_specs(header: Mapping[str, Any], region_offsets: np.ndarray) -> dict[str, ArraySpec]:
    """All arrays of a shard by name, from its header and the numbers of regions."""
    images, regions = len(region_offsets) - 1, int(region_offsets[-1])
    views, classes = 1 + header["mirrored"], len(header["classes"])
    specs = {
        "done": ("u1", images),
        "image_sizes": ("<i4", images, 2),
        "region_offsets": ("<i8", images + 1),
        "boxes": ("<f4", regions, 4),
        "class_logits": ("<f2", views, regions, classes),
        "detection_logits": ("<f2", views, regions, classes),
    }
    if header["features"] is not None:
        places = int(selected_offsets(header, region_offsets)[-1])
        layers = header["features"]["layers"]
        specs |= {
            "selected": ("<i4", views, places),
            "selected_counts": ("<i4", views, images),
            "weights": ("<f4", views, places),
            "map_sizes": ("<i4", images, len(layers), 2),
        }
        if header["features"]["compare"] == "box_head":
            specs["proposal_weights"] = ("<f4", views, places)
        specs |= {f"features_{layer}": ("<f2", views, places, *shape) for layer, shape in layers.items()}
    for kind, layers in header.get("maps", {}).items():
        specs |= {map_array_name(kind, layer): ("<f2", views, images, *shape) for layer, shape in layers.items()}
    return {name: ArraySpec(np.dtype(kind), tuple(shape)) for name, (kind, *shape) in specs.items()}


def map_array_name(kind: str, layer: str) -> str:
    """The name of the array of the whole maps of a layer, ``kind`` of ``MAP_KINDS``."""
    return f"maps_{kind}_{layer}"


def array_path(folder: Path, name: str) -> Path:
    """The file of an array."""
    return folder / f"{name}.npy"


def allocate(folder: Path, name: str, spec: ArraySpec) -> None:
    """Make the file of an array at its full length. Until rows are written it takes next to no room on the disk."""
    with array_path(folder, name).open("wb") as file:
        description = {"descr": spec.dtype.str, "fortran_order": False, "shape": spec.shape}
        np.lib.format.write_array_header_1_0(file, description)
        file.truncate(file.tell() + spec.num_bytes)


def map_array(folder: Path, name: str, spec: ArraySpec) -> np.ndarray:
    """An array, mapped for reading.

    Raises:
        InputError: it is missing, cut short, or not what the header says.
    """
    path = array_path(folder, name)
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError, tokenize.TokenError) as error:
        raise InputError(
            f"{path}: missing, cut short or damaged ({' '.join(str(error).split())[:100]}); make the cache again in "
            "another folder (KD.CACHE)"
        ) from error
    if array.dtype != spec.dtype or array.shape != spec.shape:
        raise InputError(
            f"{path}: holds {array.dtype} {array.shape}, where the header of the shard says {spec.dtype} {spec.shape}; "
            "make the cache again in another folder (KD.CACHE)"
        )
    return array
