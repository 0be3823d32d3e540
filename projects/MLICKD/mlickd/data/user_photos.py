"""Photos that belong to no dataset: those of a folder, of a list in a text file, or of a pattern."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mlickd.errors import InputError

from .decoding import image_size
from .sources.dataset_files import IMAGE_SUFFIXES, images_below, read_unique_lines

__all__ = ["matching_files", "photo_records"]


def photo_records(paths: Sequence[str | os.PathLike[str]], root: str | os.PathLike[str] | None = None) -> list[dict]:
    """Return records, without labels, of photos from one or several places, each photo once.

    Args:
        paths: folders, whose images are taken with those of sub-folders, except hidden ones; text files with a file
            name on each line; images; or patterns of images (see :func:`matching_files`).
        root: folder that the file names in a list are relative to, by default the folder of the list.

    Returns:
        Dicts with ``file_name``, ``image_id``, ``height`` and ``width``, sorted by id within each path. The id is the
        file name below the folder, with "/". If two photos have one name, their ids start with the names of their
        folders.

    Raises:
        InputError: a path is missing or has no image, an image cannot be read, or two ids are equal.
    """
    places: list[Path] = []
    for path in paths:
        matches = matching_files(path)
        images = [name for name in matches or () if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        places += map(Path, [path] if matches is None else images)
        if matches is not None and not images:
            raise InputError(f"{path}: no image matches this pattern; name a folder with photos, or a photo")
    found: dict[str, tuple[Path, str, Path]] = {}
    for place in places:
        folder, names = _photos_of(place.expanduser(), root)
        for name in names:
            file = folder / name
            found.setdefault(os.path.realpath(file), (folder, name, file))
    counts = Counter(name for _, name, _ in found.values())
    records: dict[str, dict] = {}
    for folder, name, file in found.values():
        image_id = name if counts[name] == 1 else f"{folder.absolute().name}/{name}"
        if image_id in records:
            raise InputError(f"{records[image_id]['file_name']} and {file} have one name; rename one of them")
        height, width = image_size(file)
        records[image_id] = {"file_name": str(file), "image_id": image_id, "height": height, "width": width}
    return list(records.values())


def matching_files(pattern: str | os.PathLike[str]) -> list[str] | None:
    """Return the sorted files of a pattern with ``*``, ``?`` or ``[]``, where ``**`` is any number of folders.

    If the argument is not a pattern, or is the name of an existing file (it may have a bracket), return None.
    """
    pattern = os.path.expanduser(pattern)
    if not glob.has_magic(pattern) or os.path.exists(pattern):
        return None
    return sorted(found for found in glob.glob(pattern, recursive=True) if os.path.isfile(found))


def _photos_of(path: Path, root: str | os.PathLike[str] | None) -> tuple[Path, list[str]]:
    """Return a folder, and the sorted names of the photos below it that a path stands for."""
    if path.is_dir():
        names = [Path(image).relative_to(path).as_posix() for image in images_below(path, hidden=False)]
        if not names:
            raise InputError(f"{path}: no image in this folder; name a folder with photos, a list of them, or a photo")
        return path, sorted(names)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return path.parent, [path.name]
    folder = path.parent if root is None else Path(root)

    def below_folder(line: str, where: str) -> str:
        name = Path(os.path.relpath(folder / line, folder)).as_posix()
        if name.startswith("../"):
            raise InputError(f"{where}: {line!r} is not inside {folder}; name the folder that all photos are in")
        return name

    remedy = "name a folder with photos, a list of them, or a photo"
    return folder, sorted(read_unique_lines(path, remedy, below_folder))
