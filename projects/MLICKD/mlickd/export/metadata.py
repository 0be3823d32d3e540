"""Metadata of an exported file: texts by name, which every reader of ONNX can show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from mlickd.errors import InputError

__all__ = ["FORMAT", "ExportMetadata"]

FORMAT = "mlickd classifier 1"

_RESIZE = (
    "the whole photo, upright according to its EXIF orientation, warped to input_size x input_size pixels; Pillow: "
    "box = (image.draft('RGB', (input_size, input_size)) or (None, None))[1], then "
    "image.convert('RGB').resize((input_size, input_size), Image.Resampling.BILINEAR, box=box), then "
    "ImageOps.exif_transpose(image)"
)
# The fields that are stored as they are; all others are stored as JSON.
_TEXTS = ("thresholds_from", "channel_order")


@dataclass(frozen=True)
class ExportMetadata:
    """Everything that a program needs to use an exported file.

    Attributes:
        class_names: C names, in the order of the scores.
        thresholds: C numbers in 0..1; a class is predicted if ``score >= threshold``.
        thresholds_from: source of the thresholds, in words.
        input_size: side of the square input of the network, in pixels.
        preprocessing: whether the graph normalizes. If it does, the input is ``pixels`` (N, S, S, 3) uint8 RGB; if not,
            ``images`` (N, 3, S, S) float32 in ``channel_order``, normalized by ``pixel_mean`` and ``pixel_std``.
        pixel_mean, pixel_std: values of the three channels in ``channel_order``, in units of 0 to 255.
        channel_order: channel order of the network, ``RGB`` or ``BGR``.
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
        """Name of the input of the graph."""
        return "pixels" if self.preprocessing else "images"

    def input_shape(self, count: int) -> tuple[int, ...]:
        """Return the shape of the input of the graph for ``count`` images."""
        side = self.input_size
        return (count, side, side, 3) if self.preprocessing else (count, 3, side, side)

    def network_input(self, views: np.ndarray) -> np.ndarray:
        """Return the input of the graph for (N, S, S, 3) uint8 RGB pixels."""
        if self.preprocessing:
            return views
        images = views if self.channel_order == "RGB" else views[..., ::-1]
        mean, std = (np.array(values, dtype=np.float32) for values in (self.pixel_mean, self.pixel_std))
        return np.ascontiguousarray(((images - mean) / std).transpose(0, 3, 1, 2))

    def properties(self) -> dict[str, str]:
        """Return the metadata as texts; all but ``thresholds_from``, ``channel_order`` and ``resize`` are JSON."""
        texts = {
            name: value if name in _TEXTS else json.dumps(value, ensure_ascii=False)
            for name, value in asdict(self).items()
        }
        return {"format": FORMAT, **texts, "resize": _RESIZE}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], path: str) -> ExportMetadata:
        """Return the metadata from its texts.

        Args:
            properties: texts that :meth:`properties` returned.
            path: path of the file, for messages.

        Raises:
            InputError: the texts are not those of an exported student, or contradict each other.
        """
        if properties.get("format") != FORMAT:
            raise InputError(f"{path}: was not written by this version of tools/export_student.py; export it again")
        try:
            values = {}
            for name in (member.name for member in fields(cls)):
                value = properties[name] if name in _TEXTS else json.loads(properties[name])
                values[name] = tuple(value) if isinstance(value, list) else value
            metadata = cls(**values)
            statistics = np.array([metadata.pixel_mean, metadata.pixel_std], dtype=np.float64)
            thresholds = np.array(metadata.thresholds, dtype=np.float64)
            valid = (
                all(isinstance(name, str) for name in metadata.class_names)
                and thresholds.shape == (len({*metadata.class_names}),)
                and ((thresholds >= 0) & (thresholds <= 1)).all()
                and metadata.input_size in range(1, 1 << 16)
                and isinstance(metadata.preprocessing, bool)
                and statistics.shape == (2, 3)
                and np.isfinite(statistics).all()
                and (statistics[1] > 0).all()
                and metadata.channel_order in ("RGB", "BGR")
            )
        except (KeyError, ValueError, TypeError, RecursionError):
            valid = False
        if not valid:
            raise InputError(f"{path}: its metadata are damaged; export it again with tools/export_student.py")
        return metadata
