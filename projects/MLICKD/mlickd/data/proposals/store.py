"""Storage of the proposals of a dataset in a folder of safetensors shards, which are safe to open.

A shard contains the tensors of up to 256 images::

    boxes    float32 (M, 4)   x0, y0, x1, y1 in pixels of the original image
    scores   float32 (M,)     best first within an image
    offsets  int64 (N + 1,)   index of the first box of each image, and M

The metadata of a shard consists of its image ids and the header. The header is the same in all shards: method,
parameters, digest of the list of images, and total number of images. Equal content gives equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mlickd.environment import dataset_root
from mlickd.errors import InputError, shorten_list
from mlickd.files import remove_unfinished
from mlickd.tensor_shards import Shard, ShardLayout, find_shards, read_rows, write_shard

from ..parts import whole_name

IMAGES_PER_SHARD = 256
_REMEDY = "make the proposals again with `mlickd generate-proposals`"
_MAX_SIDE = np.finfo(np.float32).max

Proposals = tuple[str | int, np.ndarray, np.ndarray]


def proposals_path(name: str, method: str) -> Path:
    """Return the folder of the proposals of a dataset. A part of a dataset uses the folder of the whole dataset."""
    return dataset_root() / "proposals" / f"{whole_name(name)}_{method}"


class ProposalStore:
    """Read-only proposals by image id.

    Opening a store reads only the headers and offsets of its shards. A shard is opened for each read, so a store can be
    pickled for the workers of a data loader.

    Attributes:
        path: folder, absolute.
        header: ``method``, ``parameters``, ``image_digest`` and ``num_images``.
        num_boxes: number of boxes of all images.
        digest: SHA-256 of the image ids, boxes and scores, in hexadecimal.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Open the store in a folder.

        Raises:
            InputError: the folder is missing, a shard is missing or corrupt, or the shards do not belong together.
        """
        self.path = Path(path).absolute()
        self._shards = shards = [_ProposalShard(file) for file in find_shards(self.path, _REMEDY)]
        self.header, self.num_boxes = shards[0].header, sum(shard.num_boxes for shard in shards)
        self._layout = ShardLayout(self.header["num_images"], max(1, len(shards[0].ids)))
        self._positions: dict[str, int] = {}
        digest = hashlib.sha256()
        for number, shard in enumerate(shards):
            images = self._layout.images(number)
            self._positions.update(zip(shard.ids, images, strict=False))
            if changed := different_fields(self.header, shard.header):
                raise InputError(f"{shard.path}: has another {', '.join(changed)} than the first shard; {_REMEDY}")
            if len(shard.ids) != len(images) or len(self) != images.stop or len(shards) != len(self._layout):
                raise InputError(f"{shard.path}: the store lacks images, or repeats some; {_REMEDY}")
            digest.update(json.dumps([shard.ids, shard.sha256]).encode())
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the image ids in the order of writing."""
        return iter(self._positions)

    def __getitem__(self, image_id: str | int) -> tuple[np.ndarray, np.ndarray]:
        """Return the proposals of an image.

        Returns:
            Distinct boxes (R, 4) float32 as (x0, y0, x1, y1) in pixels of the original image, and scores (R,) float32,
            best first.

        Raises:
            InputError: the store has no proposals for this image.
        """
        number, index = divmod(self._position(image_id), self._layout.images_per_shard)
        with self._shards[number].open() as file:
            rows = slice(*read_rows(file, "offsets", slice(index, index + 2)).tolist())
            return read_rows(file, "boxes", rows), read_rows(file, "scores", rows)

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Check that every record has proposals, and that the boxes are inside the image.

        Args:
            records: dicts with ``image_id`` and optionally ``height`` and ``width``.

        Raises:
            InputError: an image is missing or has no boxes; a box is not finite, has no area or is not inside the
                image; or a score is not finite. The message names the store, the image and the box.
        """
        # Images without a record keep NaN and are not checked. Every finite box fits an image of unknown size.
        sizes = np.full((len(self), 2), np.nan, dtype=np.float32)
        for record in records:
            sizes[self._position(record["image_id"])] = record.get("width", _MAX_SIDE), record.get("height", _MAX_SIDE)
        for number, shard in enumerate(self._shards):
            images = self._layout.images(number)
            problem = shard.find_problem(sizes[images.start : images.stop])
            if problem is not None:
                raise InputError(f"{self.path}: image {problem}; {_REMEDY}")

    def check_digests(self) -> None:
        """Read all tensors and compare them with the digests of their shards; see :meth:`Shard.check_digest`."""
        for shard in self._shards:
            shard.check_digest()

    def _position(self, image_id: str | int) -> int:
        try:
            return self._positions[str(image_id)]
        except KeyError:
            raise InputError(f"{self.path}: no proposals for image {image_id}; {_REMEDY}") from None


class _ProposalShard(Shard):
    """A shard with the proposals of up to 256 images."""

    def __init__(self, path: Path):
        super().__init__(path, _REMEDY)
        self.header = self.read_metadata()
        self.ids, self.sha256 = self.header.pop("ids", None), self.header.pop("sha256")
        with self.open() as file:
            tensors = [file.get_slice(name) for name in ("boxes", "scores", "offsets")]
            dtypes, shapes = zip(*((tensor.get_dtype(), tensor.get_shape()) for tensor in tensors), strict=True)
            self.num_boxes, offsets = shapes[0][0], tensors[2][:]
        kinds = {"method": str, "parameters": dict, "image_digest": str, "num_images": int}
        if (
            not isinstance(self.ids, list)
            or not all(isinstance(image_id, str) for image_id in self.ids)
            or not all(isinstance(self.header.get(name), kind) for name, kind in kinds.items())
            or dtypes != ("F32", "F32", "I64")
            or shapes != ([self.num_boxes, 4], [self.num_boxes], [len(self.ids) + 1])
            or (offsets[0], offsets[-1]) != (0, self.num_boxes)
            or (np.diff(offsets) < 0).any()
        ):
            raise InputError(f"{path}: is not a shard of proposals; {_REMEDY}")

    def find_problem(self, sizes: np.ndarray) -> str | None:
        """Return the id of the first image with a problem, and the problem; or None.

        Args:
            sizes: (N, 2) float32 widths and heights of the images; NaN skips an image.
        """
        with self.open() as file:
            boxes, scores, offsets = (file.get_tensor(name) for name in ("boxes", "scores", "offsets"))
        checked, counts = ~np.isnan(sizes[:, 0]), np.diff(offsets)
        x0, y0, x1, y1 = boxes.T
        width, height = np.repeat(sizes, counts, axis=0).T
        # Every comparison with NaN is false.
        valid = (0 <= x0) & (x0 < x1) & (x1 <= width) & (0 <= y0) & (y0 < y1) & (y1 <= height) & np.isfinite(scores)
        for image in np.flatnonzero(checked & (counts == 0))[:1]:
            return f"{self.ids[image]}: has no boxes"
        for row in np.flatnonzero(~valid & np.repeat(checked, counts))[:1]:
            image = int(np.searchsorted(offsets, row, side="right")) - 1
            numbers = ", ".join(f"{value:g}" for value in boxes[row])
            return (
                f"{self.ids[image]}: box {row - offsets[image]} [{numbers}] with score {scores[row]:g} is not "
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
    """Write a store. When it is complete, it replaces the shards in the folder.

    Args:
        path: folder, created if it is missing.
        items: image id, boxes (R, 4) and scores (R,) of each image. A generator keeps only one shard in memory. Boxes
            are sorted by score, and repeated boxes are dropped.
        method: name of the method that made the proposals.
        parameters: parameters of the method, JSON values.
        image_digest: see :func:`image_list_digest`.
        num_images: number of items, required if ``items`` has no length.

    Raises:
        InputError: the folder cannot be written, or the number of items or of their ids is not ``num_images``.
    """
    num_images = len(items) if num_images is None else num_images  # type: ignore[arg-type]
    header = store_header(method, parameters, image_digest, num_images)
    layout, iterator = ShardLayout(num_images, IMAGES_PER_SHARD), iter(items)
    paths = [layout.path(path, index) for index in range(len(layout))]
    # Another process that writes this store has other names.
    unfinished = [shard.with_name(f"{shard.name}.{os.getpid()}.unfinished") for shard in paths]
    try:
        count, ids = 0, set()
        for index, shard in enumerate(unfinished):
            shard_items = list(islice(iterator, len(layout.images(index))))
            write_proposal_shard(shard, shard_items, header)
            count += len(shard_items)
            ids.update(str(image_id) for image_id, _, _ in shard_items)
        count += sum(1 for _ in iterator)  # runs a generator to its end, with its last checks
        if not count == len(ids) == num_images:
            raise InputError(f"{path}: num_images is {num_images}, but items has {count} images with {len(ids)} ids")
        if not all(shard.exists() for shard in unfinished):
            raise InputError(f"{path}: another command has written these proposals at the same time")
        for target in paths:  # a stopped command leaves missing shards, but never a mix of old and new shards
            target.unlink(missing_ok=True)
        for source, target in zip(unfinished, paths, strict=True):
            source.replace(target)
        layout.remove_other_shards(path)
        remove_unfinished(Path(path))  # of killed commands
    finally:
        for shard in unfinished:
            shard.unlink(missing_ok=True)


def write_proposal_shard(path: Path, items: Sequence[Proposals], header: Mapping[str, Any]) -> None:
    """Write one shard: the items as for :func:`write_store`, and the header from :func:`store_header`."""
    proposals = [sort_proposals(boxes, scores) for _, boxes, scores in items]
    tensors = {
        "boxes": np.concatenate([np.empty((0, 4), np.float32), *(boxes for boxes, _ in proposals)]),
        "scores": np.concatenate([np.empty(0, np.float32), *(scores for _, scores in proposals)]),
        "offsets": np.cumsum([0, *(len(scores) for _, scores in proposals)], dtype=np.int64),
    }
    ids = [str(image_id) for image_id, _, _ in items]
    write_shard(path, tensors, {**header, "ids": ids}, "free disk space, or give another folder")


def store_header(method: str, parameters: Mapping[str, Any], image_digest: str, num_images: int) -> dict[str, Any]:
    """Return the metadata that all shards of a store share."""
    return {"method": method, "parameters": dict(parameters), "image_digest": image_digest, "num_images": num_images}


def image_list_digest(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of a list of images: their ids, sizes in pixels and sizes in bytes. The order is ignored.

    Raises:
        InputError: image files are missing.
    """
    images, missing = {}, []
    for record in records:
        try:
            num_bytes = os.stat(record["file_name"]).st_size
            images[str(record["image_id"])] = record.get("width"), record.get("height"), num_bytes
        except OSError:
            missing.append(record["file_name"])
    if missing:
        raise InputError(f"{shorten_list(missing)}: image file not found; put it there")
    return hashlib.sha256(json.dumps(images, sort_keys=True).encode()).hexdigest()


def different_fields(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return the names of metadata that differ."""
    return [name for name, value in expected.items() if found.get(name) != value]


def sort_proposals(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort proposals by score, best first. Equal scores keep their order. Of equal boxes, only the best is kept.

    Returns:
        Boxes (R, 4) and scores (R,), float32.
    """
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    scores = np.asarray(scores, dtype=np.float32).reshape(len(boxes))
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    first = np.sort(np.unique(boxes, axis=0, return_index=True)[1])
    return boxes[first], scores[first]
