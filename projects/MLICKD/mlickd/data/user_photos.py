"""Records of photos that do not belong to a dataset: in a folder, in a list in a text file, or with a pattern."""

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

_REMEDY = "name a folder with photos, a list of them, or a photo"


def photo_records(paths: Sequence[str | os.PathLike[str]], root: str | os.PathLike[str] | None = None) -> list[dict]:
    """Return records without labels for photos from several paths, one record per photo.

    Args:
        paths: folders (images in sub-folders are included, hidden ones are not), text files with a file name on each
            line, images, or patterns of images (see :func:`matching_files`).
        root: folder of the file names in a list, by default the folder of the list.

    Returns:
        Dicts with ``file_name``, ``image_id``, ``height`` and ``width``, sorted by id within each path. The id is the
        file name below the folder, with "/". If two photos have the same name, their ids start with the names of their
        folders.

    Raises:
        InputError: a path is missing or does not have images, an image cannot be read, or two ids are equal.
    """
    found: dict[str, tuple[Path, str]] = {}
    for path in paths:
        matches = matching_files(path)
        images = [name for name in matches or () if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        places = [os.path.expanduser(path)] if matches is None else images
        photos = [photo for place in places for photo in _list_photos(Path(place), root)]
        if not photos:
            raise InputError(f"{path}: no image found; {_REMEDY}")
        for folder, name in photos:
            found.setdefault(os.path.realpath(folder / name), (folder, name))
    counts = Counter(name for _, name in found.values())
    records: dict[str, dict] = {}
    for folder, name in found.values():
        file = folder / name
        image_id = name if counts[name] == 1 else f"{folder.absolute().name}/{name}"
        if image_id in records:
            raise InputError(f"{records[image_id]['file_name']} and {file} have the same name; rename one of them")
        height, width = image_size(file)
        records[image_id] = {"file_name": str(file), "image_id": image_id, "height": height, "width": width}
    return list(records.values())


def matching_files(pattern: str | os.PathLike[str]) -> list[str] | None:
    """Return the sorted files that match a pattern with ``*``, ``?`` or ``[]``; ``**`` is any number of folders.

    If the argument is not a pattern, or is an existing path (a name may have a bracket), return None.
    """
    pattern = os.path.expanduser(pattern)
    if not glob.has_magic(pattern) or os.path.exists(pattern):
        return None
    return sorted(found for found in glob.glob(pattern, recursive=True) if os.path.isfile(found))


def _list_photos(path: Path, root: str | os.PathLike[str] | None) -> list[tuple[Path, str]]:
    """Return (folder, name below the folder) of the photos in a folder or a list, or of a photo, sorted."""
    if path.is_dir():
        names = [Path(image).relative_to(path).as_posix() for image in images_below(path)]
        return [(path, name) for name in sorted(names)]
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return [(path.parent, path.name)]
    folder = path.parent if root is None else Path(root)

    def name_below_folder(line: str, where: str) -> str:
        name = Path(os.path.relpath(folder / line, folder)).as_posix()
        if name.startswith("../"):
            raise InputError(f"{where}: {line!r} is not inside {folder}; name the folder that contains all photos")
        return name

    return [(folder, name) for name in sorted(read_unique_lines(path, _REMEDY, name_below_folder))]
