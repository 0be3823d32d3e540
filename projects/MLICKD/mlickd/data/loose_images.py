"""Photos that belong to no dataset: those of a folder, or those that a text file lists."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mlickd.errors import InputError

from .records import image_size
from .sources.image_folder import IMAGE_SUFFIXES, images_below

__all__ = ["is_pattern", "loose_image_records", "matching_files", "photo_records"]


def photo_records(paths: Sequence[str | os.PathLike[str]]) -> list[dict]:
    """Records, without labels, of photos from several places.

    Each photo comes once. Where two places have a photo of one name, the ids of both begin with the name of their
    folder.

    Args:
        paths: as of :func:`loose_image_records`, or patterns of images, see :func:`is_pattern`.

    Raises:
        InputError: one of them is missing or holds no image, or two photos have one name in folders of one name.
    """
    places = [Path(place).expanduser() for path in paths for place in _images_of_pattern(path) or [path]]
    found, seen = [], set()
    for place in places:
        for record in loose_image_records(place):
            # Several places may have it.
            file = os.path.realpath(record["file_name"])
            if file not in seen:
                seen.add(file)
                found.append((place, record))
    counts = Counter(record["image_id"] for _, record in found)
    records: dict[str, dict] = {}
    for path, record in found:
        image_id = record["image_id"]
        if counts[image_id] > 1:
            folder = path.absolute() if path.is_dir() else path.absolute().parent
            image_id = f"{folder.name}/{image_id}"
        if image_id in records:
            other = records[image_id]["file_name"]
            raise InputError(f"--photos: {other} and {record['file_name']} have one name; rename one of them")
        records[image_id] = {**record, "image_id": image_id}
    return list(records.values())


def _images_of_pattern(pattern: str | os.PathLike[str]) -> list[str]:
    # A text file beside the photos is no list of others.
    return [name for name in matching_files(pattern) if Path(name).suffix.lower() in IMAGE_SUFFIXES]


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Whether it has ``*``, ``?`` or ``[]`` in it, and is not the name of what is there, which may have a bracket."""
    path = os.path.expanduser(path)
    return glob.has_magic(path) and not os.path.exists(path)


def matching_files(pattern: str | os.PathLike[str]) -> list[str]:
    """The files of a pattern, sorted, where ``**`` is any number of folders; none where it is no pattern."""
    if not is_pattern(pattern):
        return []
    return sorted(found for found in glob.glob(os.path.expanduser(pattern), recursive=True) if os.path.isfile(found))


def loose_image_records(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[dict]:
    """Records of photos without labels.

    Args:
        path: a folder, whose images are taken with those of its sub-folders, except hidden ones; or a text file with
            one file name a line (UTF-8; blank lines, a byte order mark and Windows line ends do no harm); or one image.
        root: what file names in a list are relative to, by default the folder of the list.

    Returns:
        Dicts with ``file_name``, ``image_id``, ``height`` and ``width``, sorted by image id: the file name below the
        folder, with forward slashes, as in a folder dataset.

    Raises:
        InputError: there is no such folder, list or image; no image; one that is listed twice, is outside the folder or
            cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        names = [Path(image).relative_to(path).as_posix() for image in images_below(path, hidden=False)]
        if not names:
            raise InputError(f"{path}: no image in this folder; name a folder with photos, or a list of them")
        folder = path
    elif path.is_file():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            folder, names = path.parent, [path.name]
        else:
            folder = Path(root) if root is not None else path.parent
            names = _listed_images(path, folder)
    else:
        raise InputError(f"{path}: no such file or folder; name a folder with photos, a list of them or an image")
    records = []
    for name in sorted(names):
        height, width = image_size(folder / name)
        records.append({"file_name": str(folder / name), "image_id": name, "height": height, "width": width})
    return records


def _listed_images(path: Path, folder: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: neither an image nor a list in UTF-8 ({error.reason}); give one of them") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it readable") from error
    names: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        name = _below(folder, line.strip(), where)
        if name in names:
            raise InputError(f"{where}: {name} is also in line {names[name]}; remove one")
        if not (folder / name).is_file():
            raise InputError(f"{where}: {folder / name}: image file not found; correct the list or the folder")
        names[name] = number
    if not names:
        raise InputError(f"{path}: the list is empty; write one file name a line")
    return list(names)


def _below(folder: Path, text: str, where: str) -> str:
    """A listed file name relative to the folder."""
    name = PurePosixPath(os.path.normpath(folder.absolute() / text).replace(os.sep, "/"))
    try:
        return name.relative_to(PurePosixPath(os.path.normpath(folder.absolute()).replace(os.sep, "/"))).as_posix()
    except ValueError:
        raise InputError(f"{where}: {text!r} is not inside {folder}; name the folder that all of them are in") from None
