"""Photos that belong to no data set: those of a folder, or those that a text file lists."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from mlickd.errors import InputError

from .records import image_size
from .sources.image_folder import IMAGE_SUFFIXES, images_below

__all__ = ["loose_image_records"]


def loose_image_records(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[dict]:
    """Records of photos without labels.

    Args:
        path: a folder, whose images are taken with those of its sub-folders, except hidden ones; or a text file with
            one file name a line (UTF-8; blank lines, a byte order mark and Windows line ends do no harm); or one image.
        root: what file names in a list are relative to, by default the folder of the list.

    Returns:
        Dicts with ``file_name``, ``image_id``, ``height`` and ``width``, sorted by image id: the file name below the
        folder, with forward slashes, as in a folder data set.

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
