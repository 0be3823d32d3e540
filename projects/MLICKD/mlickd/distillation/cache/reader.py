"""Reading the cache of one dataset."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlickd.distillation.regions import RegionKnowledge
from mlickd.errors import InputError

from .header import HEADER_FILE, differences, read_json
from .layout import IDS_FILE, array_specs, map_array, map_array_name, selected_offsets, shard_folder, shard_length

__all__ = ["DatasetCache"]

_REMEDY = "make the cache again in another folder (KD.CACHE)"


class DatasetCache:
    """The knowledge of all images of a dataset, mapped into memory from one or more shards."""

    def __init__(self, cache: str | os.PathLike[str], dataset: str, expected: Mapping[str, Any]):
        """
        Args:
            cache: the folder ``KD.CACHE``.
            dataset: its name.
            expected: what the run asks for, see :func:`describe_run`.

        Raises:
            InputError: the cache is not there, not complete, damaged, or made from something else: says what.
        """
        folder = Path(cache) / dataset
        count = _number_of_shards(folder, dataset)
        self.shards = []
        self._places: dict[str, tuple[_Shard, int]] = {}
        for number in range(1, count + 1):
            shard = _Shard(shard_folder(cache, dataset, (number, count)), (number, count), expected)
            self.shards.append(shard)
            self._places.update((image_id, (shard, image)) for image, image_id in enumerate(shard.ids))
        if len(self._places) != expected["num_images"]:
            raise InputError(f"{folder}: an image id is in it twice; {_REMEDY}")

    def __len__(self) -> int:
        return len(self._places)

    @property
    def num_bytes(self) -> int:
        """Of all arrays."""
        return sum(array.nbytes for shard in self.shards for array in shard.arrays.values())

    def __contains__(self, image_id: object) -> bool:
        return str(image_id) in self._places

    def __iter__(self) -> Iterator[str]:
        """The ids of the images."""
        return iter(self._places)

    def read(self, image_id: object, *, mirror: bool) -> tuple[np.ndarray, tuple[int, int], RegionKnowledge]:
        """All that is known of one image.

        Args:
            image_id: of the dataset.
            mirror: of the mirrored image. Where that is not stored, it is what the image itself says, flipped.

        Returns:
            (R, 4) float32 boxes in pixels of the image, its height and width, and the teacher's word on its regions.

        Raises:
            InputError: the cache has nothing for this image, or what it has is damaged.
        """
        if image_id not in self:
            first = self.shards[0].folder.parent
            raise InputError(f"{first}: holds nothing for image {image_id}; {_REMEDY}")
        shard, image = self._places[str(image_id)]
        return shard.read(image, mirror)


class _Shard:
    """The arrays of one folder."""

    def __init__(self, folder: Path, shard: tuple[int, int], expected: Mapping[str, Any]):
        self.folder = folder
        self.header = _check_header(folder, {**expected, "shard": list(shard)})
        features = self.header["features"] is not None
        length = shard_length(expected["num_images"], shard)
        self.ids = _read_ids(folder / IDS_FILE, length)
        empty = array_specs({**self.header, "features": None, "maps": {}}, np.zeros(length + 1, np.int64))
        offsets = map_array(folder, "region_offsets", empty["region_offsets"])
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise InputError(f"{folder}: damaged table of regions; {_REMEDY}")
        specs = array_specs(self.header, offsets)
        if features:
            specs = {name: spec for name, spec in specs.items() if not name.startswith("features_")} | {
                f"features_{layer}": specs[f"features_{layer}"] for layer in expected["features"]["layers"]
            }
        self.arrays = {name: map_array(folder, name, spec) for name, spec in specs.items()}
        unfinished = int((self.arrays["done"] != 1).sum())
        if unfinished:
            raise InputError(
                f"{folder}: {unfinished} of {length} images are not done; give the command of tools/cache_knowledge.py "
                "again, it goes on where it was"
            )
        # Two numbers of every image are asked for each time: as Python's integers, not through the mapping.
        self.regions = offsets.tolist()
        self.selected = selected_offsets(self.header, offsets).tolist() if features else None
        self.layers = list(expected["features"]["layers"]) if features else []
        self.maps = [(kind, layer) for kind, layers in self.header["maps"].items() for layer in layers]

    def read(self, image: int, mirror: bool) -> tuple[np.ndarray, tuple[int, int], RegionKnowledge]:
        """As :meth:`DatasetCache.read`, of the image at this index in the shard."""
        view = int(mirror and self.header["mirrored"])
        rows = slice(*self.regions[image : image + 2])
        known = RegionKnowledge(
            self._tensor("class_logits", view, rows).float(), self._tensor("detection_logits", view, rows).float()
        )
        if self.selected is not None:
            self._read_features(known, image, view)
        for kind, layer in self.maps:
            # Copied, as the others are.
            of_image = np.array(self.arrays[map_array_name(kind, layer)][view, image])
            known.maps[kind, layer] = torch.from_numpy(of_image)
        height, width = self.arrays["image_sizes"][image].tolist()
        if mirror and not self.header["mirrored"]:
            known = known.mirrored()
        return self.arrays["boxes"][rows], (height, width), known

    def _read_features(self, known: RegionKnowledge, image: int, view: int) -> None:
        start, end = self.selected[image : image + 2]
        count = int(self.arrays["selected_counts"][view, image])
        rows = slice(start, start + count)
        known.selected = self._tensor("selected", view, rows).long()
        of_image = len(known.class_logits)
        if not 0 <= count <= end - start or not ((known.selected >= 0) & (known.selected < of_image)).all():
            raise InputError(f"{self.folder}: image {self.ids[image]}: damaged selection of regions; {_REMEDY}")
        known.weights = self._tensor("weights", view, rows)
        if "proposal_weights" in self.arrays:
            known.proposal_weights = self._tensor("proposal_weights", view, rows)
        stored = list(self.header["features"]["layers"])
        for layer in self.layers:
            known.features[layer] = self._tensor(f"features_{layer}", view, rows)
            height, width = self.arrays["map_sizes"][image, stored.index(layer)].tolist()
            known.map_sizes[layer] = (height, width)

    def _tensor(self, name: str, view: int, rows: slice) -> torch.Tensor:
        # Copied: a tensor must not share memory that cannot be written.
        return torch.from_numpy(np.array(self.arrays[name][view, rows]))


def _number_of_shards(folder: Path, dataset: str) -> int:
    """Into how many shards the dataset is divided; all of them must be there."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise InputError(
            f"KD.CACHE {folder.parent}: has nothing for dataset {dataset}; make it with tools/cache_knowledge.py"
        ) from error
    shards = [re.fullmatch(r"shard-([1-9]\d{0,8})-of-([1-9]\d{0,8})", name, re.ASCII) for name in names]
    found = sorted((int(match[2]), int(match[1])) for match in shards if match)
    counts = sorted({count for count, _ in found})
    if not counts:
        raise InputError(f"{folder}: holds no shard; make one with tools/cache_knowledge.py")
    if len(counts) > 1:
        raise InputError(
            f"{folder}: is divided into {' and into '.join(map(str, counts))} shards; remove the folders of all but "
            "one division"
        )
    (count,) = counts
    numbers = {number for _, number in found}
    if len(numbers) < count:
        missing = next(number for number in range(1, count + 1) if number not in numbers)
        raise InputError(
            f"{folder}: shard {missing}/{count} is missing; make it with tools/cache_knowledge.py --shard "
            f"{missing}/{count}, or copy it there"
        )
    return count


def _check_header(folder: Path, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The header of a shard, where it fits the run; without features where none are asked for."""
    header = read_json(folder / HEADER_FILE)
    if not isinstance(header, dict) or type(header.get("mirrored")) is not bool:
        raise InputError(f"{folder / HEADER_FILE}: damaged; {_REMEDY}")
    wanted = {key: value for key, value in expected.items() if key != "features"}
    if wanted["proposals"] is None:
        # The cache has the boxes: a machine that has no proposals of its own can train with it.
        del wanted["proposals"]
    if expected["features"] is not None:
        if header.get("features") is None:
            raise InputError(
                f"{folder}: holds no features of regions, which KD.FEATURE.DISTILLER needs; {_REMEDY}, without "
                "--no-features"
            )
        wanted["features"] = _of_layers(expected["features"], header["features"])
    header = {**header, "maps": _part_of_maps(expected["maps"], header.get("maps"))}
    changed = differences(header, wanted)
    if changed:
        raise InputError(f"{folder}: was made with {changed}; {_REMEDY}, or change the run back")
    return {**header, "features": wanted.get("features")}


def _part_of_maps(wanted: Mapping[str, Mapping[str, Any]], found: Any) -> dict[str, dict[str, Any]]:
    """Of the whole maps that a cache holds, those that a run wants."""
    part: dict[str, dict[str, Any]] = {}
    for kind, layers in wanted.items():
        there = found.get(kind) if isinstance(found, dict) else None
        there = there if isinstance(there, dict) else {}
        part[kind] = {layer: there[layer] for layer in layers if layer in there}
    return part


def _of_layers(wanted: Mapping[str, Any], found: Any) -> dict[str, Any]:
    """What a run wants of features, with the layers beyond it that a cache holds, too."""
    layers = found.get("layers") if isinstance(found, dict) else None
    more = layers if isinstance(layers, dict) else {}
    # What is no shape is left out, and then differs.
    more = {layer: shape for layer, shape in more.items() if _is_shape(shape)}
    # In the order of the cache, which its arrays have.
    return {**wanted, "layers": {**more, **wanted["layers"]}}


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(type(length) is int and length > 0 for length in value)


def _read_ids(path: Path, length: int) -> list[str]:
    ids = read_json(path)
    if not isinstance(ids, list) or len(ids) != length or not all(isinstance(image_id, str) for image_id in ids):
        raise InputError(f"{path}: is not a list of {length} image ids; {_REMEDY}")
    return ids
