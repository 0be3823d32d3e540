"""What an exported file says of itself: texts by name, so that they can be read wherever the file can."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlickd.errors import InputError

__all__ = ["FORMAT", "FORMAT_VERSION", "ExportMetadata"]

FORMAT = "mlickd classifier"
FORMAT_VERSION = 1

_RESIZE = (
    "the whole photo, upright as its EXIF orientation says, warped to input_size x input_size pixels; Pillow: "
    "box = (image.draft('RGB', (input_size, input_size)) or (None, None))[1], then "
    "image.convert('RGB').resize((input_size, input_size), Image.Resampling.BILINEAR, box=box), then "
    "ImageOps.exif_transpose(image)"
)


@dataclass(frozen=True)
class ExportMetadata:
    """
    Attributes:
        class_names: C names, in the order of the scores.
        thresholds: C numbers in 0..1; a class is predicted where ``score >= threshold``.
        thresholds_from: where they come from, in words.
        input_size: side of the square that the network sees, in pixels.
        preprocessing: whether the graph normalizes. With it, the input is ``pixels`` (N, S, S, 3) uint8 RGB; without,
            ``images`` (N, 3, S, S) float32 in ``channel_order``, normalized by ``pixel_mean`` and ``pixel_std``.
        pixel_mean, pixel_std: of each channel in ``channel_order``, in units of 0 to 255.
        channel_order: of the network, ``RGB`` or ``BGR``.
        provenance: training data, checkpoint, configuration, versions and date; ready for JSON.
    """

    class_names: tuple[str, ...]
    thresholds: tuple[float, ...]
    thresholds_from: str
    input_size: int
    preprocessing: bool
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    channel_order: str
    provenance: dict = field(default_factory=dict)

    @property
    def input_name(self) -> str:
        """Of the graph's input."""
        return "pixels" if self.preprocessing else "images"

    def input_shape(self, count: int) -> tuple[int, ...]:
        """Of the graph's input, for ``count`` images."""
        side = self.input_size
        return (count, side, side, 3) if self.preprocessing else (count, 3, side, side)

    def network_input(self, views: np.ndarray) -> np.ndarray:
        """What the graph takes, from (N, S, S, 3) uint8 RGB pixels."""
        if self.preprocessing:
            return views
        images = views if self.channel_order == "RGB" else views[..., ::-1]
        mean, std = (np.array(values, dtype=np.float32) for values in (self.pixel_mean, self.pixel_std))
        return np.ascontiguousarray(((images - mean) / std).transpose(0, 3, 1, 2))

    def properties(self) -> dict[str, str]:
        """Texts by name; all but ``format``, ``thresholds_from``, ``channel_order`` and ``resize`` are JSON."""
        return {
            "format": FORMAT,
            "format_version": json.dumps(FORMAT_VERSION),
            "class_names": json.dumps(self.class_names, ensure_ascii=False),
            "thresholds": json.dumps(self.thresholds),
            "thresholds_from": self.thresholds_from,
            "input_size": json.dumps(self.input_size),
            "preprocessing": json.dumps(self.preprocessing),
            "pixel_mean": json.dumps(self.pixel_mean),
            "pixel_std": json.dumps(self.pixel_std),
            "channel_order": self.channel_order,
            "resize": _RESIZE,
            "provenance": json.dumps(self.provenance, ensure_ascii=False),
        }

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], path: str) -> ExportMetadata:
        """
        Args:
            properties: as :meth:`properties` gives them.
            path: of the file that they are from, for messages.

        Raises:
            InputError: they are not those of an exported student, or contradict each other.
        """
        if properties.get("format") != FORMAT:
            raise InputError(f"{path}: was not written by tools/export_student.py; give a file that it wrote")
        version = _read(properties, "format_version", path)
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path}: has format version {version!r}, this is version {FORMAT_VERSION}; export it again, or use "
                "the release that wrote it"
            )
        metadata = cls(
            class_names=tuple(_read_list(properties, "class_names", path)),
            thresholds=tuple(_read_list(properties, "thresholds", path)),
            thresholds_from=properties.get("thresholds_from", ""),
            input_size=_read(properties, "input_size", path),
            preprocessing=_read(properties, "preprocessing", path),
            pixel_mean=tuple(_read_list(properties, "pixel_mean", path)),
            pixel_std=tuple(_read_list(properties, "pixel_std", path)),
            channel_order=properties.get("channel_order", ""),
            provenance=_read(properties, "provenance", path),
        )
        metadata._check(path)
        return metadata

    def _check(self, path: str) -> None:
        names, thresholds = self.class_names, self.thresholds
        statistics = (*self.pixel_mean, *self.pixel_std)
        rules = {
            "class_names": bool(names) and all(isinstance(name, str) and name for name in names),
            "class_names (one is there twice)": len({*map(str, names)}) == len(names),
            "thresholds": all(_is_number(value) and 0 <= value <= 1 for value in thresholds),
            f"thresholds ({len(thresholds)} for {len(names)} class_names)": len(thresholds) == len(names),
            "input_size": type(self.input_size) is int and self.input_size > 0,
            "preprocessing": isinstance(self.preprocessing, bool),
            "pixel_mean or pixel_std": len(self.pixel_mean) == len(self.pixel_std) == 3
            and all(map(_is_number, statistics))
            and all(value > 0 for value in self.pixel_std),
            "channel_order": self.channel_order in ("RGB", "BGR"),
            "provenance": isinstance(self.provenance, dict),
        }
        for what, holds in rules.items():
            if not holds:
                raise _damaged(path, what)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _read(properties: Mapping[str, str], name: str, path: str) -> Any:
    try:
        return json.loads(properties[name])
    except (KeyError, ValueError, TypeError, RecursionError):
        raise _damaged(path, name) from None


def _read_list(properties: Mapping[str, str], name: str, path: str) -> list:
    values = _read(properties, name, path)
    if not isinstance(values, list):
        raise _damaged(path, name)
    return values


def _damaged(path: str, what: str) -> InputError:
    return InputError(f"{path}: its metadata is wrong or missing: {what}; export it again with tools/export_student.py")
