"""The photos that a command line names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mlickd.data.loose_images import is_pattern, matching_files
from mlickd.data.sources.image_folder import IMAGE_SUFFIXES, images_below
from mlickd.errors import InputError

__all__ = ["STANDARD_INPUT", "find_photos"]

# Stands for a list of paths on standard input.
STANDARD_INPUT = "-"

# Of a folder, these are photos as well: whether one can be read is seen when it is, and said where it cannot.
_SUFFIXES = IMAGE_SUFFIXES | {".avif", ".heic", ".heif", ".jfif", ".jp2", ".jxl"}


def find_photos(names: Sequence[str], listed: Iterable[str] = ()) -> list[str]:
    """
    Args:
        names: photos; folders, of which all images are taken with those of sub-folders, except hidden ones; patterns
            with ``*``, ``?`` or ``[]``, where ``**`` is any number of folders; or ``-``, for ``listed``.
        listed: lines with a path each, as ``find -name '*.jpg'`` prints them, or paths with NUL between them, as
            ``-print0`` does; blank lines do no harm.

    Returns:
        Paths in the order of the names, those of a folder or a pattern sorted; each once. A single photo is not looked
        at: one that is not there is found out when it is read.

    Raises:
        InputError: a folder, a pattern or the list has no image.
    """
    photos: dict[str, None] = {}
    for name in names:
        found = _photos_of(name, listed)
        if not found:
            where = "standard input: no path in it" if name == STANDARD_INPUT else f"{name}: no image there"
            raise InputError(f"{where}; name photos, a folder with photos, or a pattern such as 'photos/*.jpg'")
        photos.update(dict.fromkeys(found))
    return list(photos)


def _photos_of(name: str, listed: Iterable[str]) -> list[str]:
    if name == STANDARD_INPUT:
        return [path.strip() for line in listed for path in line.split("\0") if path.strip()]
    if is_pattern(name):
        return matching_files(name)
    path = Path(name).expanduser()
    return sorted(images_below(path, hidden=False, suffixes=_SUFFIXES)) if path.is_dir() else [str(path)]
