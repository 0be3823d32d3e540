"""The proposals of a dataset in a folder of safetensors shards, which are safe to open; equal content, equal bytes.

A shard has the tensors of up to 256 images::

    boxes    float32 (M, 4)   x0, y0, x1, y1 in pixels of the original image
    scores   float32 (M,)     best first within an image
    offsets  int64 (N + 1,)   index of the first box of each image, and M

Its metadata are the image ids and the header. All shards have the same header: method, parameters, library versions,
digest of the list of images, and number of images in all shards.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mlickd.errors import InputError
from mlickd.tensor_shards import Shard, ShardLayout, find_shards, write_shard

from ..catalog import dataset_root
from ..parts import whole_name

__all__ = ["ProposalStore", "proposals_path", "sort_proposals", "write_store"]

IMAGES_PER_SHARD = 256
_REMEDY = "make the proposals again with tools/generate_proposals.py"
_NO_ROOM = "make room there, or choose another place for the proposals"
_MAX_SIDE = np.finfo(np.float32).max

Proposals = tuple[str | int, np.ndarray, np.ndarray]


def proposals_path(name: str, method: str) -> Path:
    """Return the folder of the proposals of a dataset by ``method``. A part uses the folder of the whole dataset."""
    return dataset_root() / "proposals" / f"{whole_name(name)}_{method}"


class ProposalStore:
    """Read-only proposals by image id.

    Opening a store reads only the headers of its shards. A shard is opened in each process when one of its images is
    first requested, so a store can be pickled for the workers of a data loader.

    Attributes:
        path: folder, absolute.
        header: ``method``, ``parameters``, ``libraries``, ``image_digest`` and ``num_images``.
        num_boxes: number of boxes of all images.
    """

    path: Path
    header: dict[str, Any]
    num_boxes: int

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ProposalStore:
        """Open a store.

        Raises:
            InputError: the folder is missing, a shard is missing or damaged, or the shards do not belong together.
        """
        store = cls.__new__(cls)
        store.path = Path(path).absolute()
        shards = [_ProposalShard(file) for file in find_shards(store.path, _REMEDY)]
        digest = hashlib.sha256()
        layout = ShardLayout(shards[0].header["num_images"], max(1, len(shards[0].ids)))
        for number, shard in enumerate(shards):
            changed = different_fields(shards[0].header, shard.header)
            if len(shard.ids) != len(layout.images(number)):
                changed.append("number of images")
            if changed:
                raise InputError(f"{shard.path}: differs from the first shard in {', '.join(changed)}; {_REMEDY}")
            digest.update(json.dumps([shard.ids, shard.sha256]).encode())
        ids = chain.from_iterable(shard.ids for shard in shards)
        store._positions = {image_id: position for position, image_id in enumerate(ids)}
        if len(store) != layout.num_images:
            raise InputError(f"{store.path}: has an image twice; {_REMEDY}")
        store._shards, store._layout, store._digest = shards, layout, digest.hexdigest()
        store.header, store.num_boxes = shards[0].header, sum(shard.num_boxes for shard in shards)
        return store

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the image ids, in the order in which they were written."""
        return iter(self._positions)

    def __getitem__(self, image_id: str | int) -> tuple[np.ndarray, np.ndarray]:
        """Return the proposals of an image.

        Returns:
            Boxes (R, 4) float32 as (x0, y0, x1, y1) in pixels of the original image, and scores (R,) float32: best
            first, no box twice. Both are read-only views of the file.

        Raises:
            InputError: the store has no proposals for this image.
        """
        number, index = divmod(self._position(image_id), self._layout.images_per_shard)
        shard = self._shards[number]
        rows = slice(*shard.offsets[index : index + 2].tolist())
        return shard.tensor("boxes")[rows], shard.tensor("scores")[rows]

    def digest(self) -> str:
        """Return the SHA-256 of the image ids, boxes and scores, in hexadecimal. No tensor is read."""
        return self._digest

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Check that every record has proposals, and that these are boxes inside its image.

        Args:
            records: with ``image_id`` and, if they are known, ``height`` and ``width``.

        Raises:
            InputError: an image is missing or has no boxes, or a box is not finite, has no area or is outside the
                image, or a score is not finite. The message names the store, the image and the box.
        """
        # Images without a record keep NaN and are not checked. An image of unknown size can hold every box.
        sizes = np.full((len(self), 2), np.nan, dtype=np.float32)
        for record in records:
            sizes[self._position(record["image_id"])] = record.get("width", _MAX_SIDE), record.get("height", _MAX_SIDE)
        for number, shard in enumerate(self._shards):
            images = self._layout.images(number)
            problem = shard.find_problem(sizes[images.start : images.stop])
            shard.close()
            if problem is not None:
                raise InputError(f"{self.path}: image {problem}; {_REMEDY}")

    def check_digests(self) -> None:
        """Read all tensors and compare them with the digests of their shards; see :meth:`Shard.check_digest`."""
        for shard in self._shards:
            shard.check_digest()
            shard.close()

    def _position(self, image_id: str | int) -> int:
        try:
            return self._positions[str(image_id)]
        except KeyError:
            raise InputError(f"{self.path}: no proposals for image {image_id}; {_REMEDY}") from None


class _ProposalShard(Shard):
    """Proposals of some images."""

    def __init__(self, path: Path):
        super().__init__(path, _REMEDY)
        self.header = dict(self.metadata)
        self.ids, self.sha256 = self.header.pop("ids", None), self.header.pop("sha256")
        tensors = [self.tensor(name) for name in ("boxes", "scores", "offsets")]
        self.num_boxes = tensors[1].size
        kinds = {"method": str, "parameters": dict, "image_digest": str, "num_images": int}
        if (
            not isinstance(self.ids, list)
            or not all(isinstance(image_id, str) for image_id in self.ids)
            or not all(isinstance(self.header.get(name), kind) for name, kind in kinds.items())
            or [tensor.dtype for tensor in tensors] != [np.float32, np.float32, np.int64]
            or [tensor.shape for tensor in tensors] != [(self.num_boxes, 4), (self.num_boxes,), (len(self.ids) + 1,)]
        ):
            raise InputError(f"{path}: is not a shard of proposals; {_REMEDY}")
        self.close()

    @cached_property
    def offsets(self) -> np.ndarray:
        """Index of the first box of each image: int64 (N + 1,), ascending from 0 to the number of boxes."""
        if self.metadata["sha256"] != self.sha256:
            raise InputError(f"{self.path}: was replaced while it was in use; start again")
        offsets = np.array(self.tensor("offsets"))
        if offsets[0] != 0 or offsets[-1] != self.num_boxes or (np.diff(offsets) < 0).any():
            raise InputError(f"{self.path}: tensor offsets is damaged; {_REMEDY}")
        return offsets

    def find_problem(self, sizes: np.ndarray) -> str | None:
        """Return the first image with a problem, and the problem.

        Args:
            sizes: (N, 2) float32 widths and heights of the images, NaN for images that are not checked.
        """
        asked, counts = ~np.isnan(sizes[:, 0]), np.diff(self.offsets)
        boxes, scores = self.tensor("boxes"), self.tensor("scores")
        x0, y0, x1, y1 = boxes.T
        width, height = np.repeat(sizes, counts, axis=0).T
        # Every comparison with NaN is false.
        valid = (0 <= x0) & (x0 < x1) & (x1 <= width) & (0 <= y0) & (y0 < y1) & (y1 <= height) & np.isfinite(scores)
        for image in np.flatnonzero(asked & (counts == 0))[:1]:
            return f"{self.ids[image]}: has no boxes"
        for row in np.flatnonzero(~valid & np.repeat(asked, counts))[:1]:
            image = int(np.searchsorted(self.offsets, row, side="right")) - 1
            numbers = ", ".join(f"{value:g}" for value in boxes[row])
            return (
                f"{self.ids[image]}: box {row - self.offsets[image]} [{numbers}] with score {scores[row]:g} is not "
                f"finite, has no area, or is not inside the image of {width[row]:g} x {height[row]:g} pixels"
            )
        return None


def write_store(
    path: str | os.PathLike[str],
    items: Iterable[Proposals],
    method: str,
    parameters: Mapping[str, Any],
    image_digest: str,
    num_images: int | None = None,
) -> None:
    """Write a store. It replaces the shards in the folder when it is complete.

    Args:
        path: folder, created if it is missing.
        items: image id, boxes (R, 4) and scores (R,) of each image, which need not fit into memory together. They are
            sorted by score, and a box that an image has twice is dropped.
        method: name of the method that made the proposals.
        parameters: parameters of the method, JSON values.
        image_digest: digest of the list of images, see `image_list_digest`.
        num_images: number of items, required if ``items`` has no length.

    Raises:
        InputError: the folder cannot be written, or the number of items is not ``num_images``.
    """
    num_images = len(items) if num_images is None else num_images  # type: ignore[arg-type]
    header = store_header(method, parameters, image_digest, num_images)
    layout, iterator = ShardLayout(num_images, IMAGES_PER_SHARD), iter(items)
    paths = [layout.path(path, index) for index in range(len(layout))]
    unfinished = [shard.with_name(f"{shard.name}.unfinished") for shard in paths]
    try:
        count = 0
        for index, shard in enumerate(unfinished):
            of_shard = list(islice(iterator, len(layout.images(index))))
            write_proposal_shard(shard, of_shard, header)
            count += len(of_shard)
        count += sum(1 for _ in iterator)  # also lets a generator check that all items were there
        if count != num_images:
            raise InputError(f"{path}: num_images is {num_images}, but there are {count} items; give their number")
        for source, target in zip(unfinished, paths, strict=True):
            source.replace(target)
        layout.remove_other_shards(path)
    finally:
        for shard in unfinished:
            shard.unlink(missing_ok=True)


def write_proposal_shard(path: Path, items: Sequence[Proposals], header: Mapping[str, Any]) -> None:
    """Write the items of one shard, see :func:`write_store`, with the header from :func:`store_header`."""
    found = [sort_proposals(boxes, scores) for _, boxes, scores in items]
    tensors = {
        "boxes": np.concatenate([np.empty((0, 4), np.float32), *(boxes for boxes, _ in found)]),
        "scores": np.concatenate([np.empty(0, np.float32), *(scores for _, scores in found)]),
        "offsets": np.cumsum([0, *(len(scores) for _, scores in found)], dtype=np.int64),
    }
    write_shard(path, tensors, {**header, "ids": [str(image_id) for image_id, _, _ in items]}, _NO_ROOM)


def store_header(method: str, parameters: Mapping[str, Any], image_digest: str, num_images: int) -> dict[str, Any]:
    """Return the metadata that all shards of a store share, with the library versions that its bytes depend on."""
    return {
        "method": method,
        "parameters": dict(parameters),
        "image_digest": image_digest,
        "num_images": num_images,
        "libraries": {"numpy": np.__version__, "opencv": cv2.__version__},
    }


def different_fields(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return the names of the metadata that differ, except library versions, which may differ in one store."""
    return [name for name, value in expected.items() if name != "libraries" and found.get(name) != value]


def sort_proposals(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort proposals by score, best first; equal scores keep their order, and of equal boxes only the best is kept.

    Returns:
        Boxes (R, 4) and scores (R,), float32.
    """
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    scores = np.asarray(scores, dtype=np.float32).reshape(-1)
    if len(boxes) != len(scores):
        raise ValueError(f"{len(boxes)} boxes and {len(scores)} scores")
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    first = np.sort(np.unique(boxes, axis=0, return_index=True)[1])
    return boxes[first], scores[first]
