"""Records of photos that do not belong to a dataset: from folders and glob patterns."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlickd.decoding import RecordImage
from mlickd.errors import InputError
from mlickd.files import expand_path
from mlickd.progress import progress


def photo_records(paths: Sequence[str | os.PathLike[str]], failures: list[str]) -> list[dict]:
    """Return records without labels for photos from several paths, one record per photo.

    Args:
        paths: folders, photos or glob patterns, see :func:`expand_path`.
        failures: empty list, to which this function appends an error for each unreadable photo that it skips.

    Returns:
        Dicts with ``file_name``, ``image_id``, ``height`` and ``width``, sorted by id within each path. The id is the
        file name below the folder, with "/" between folders. If two photos have the same name, their ids start with
        the names of their folders.

    Raises:
        InputError: a path does not have images, no photo can be read, or two ids are equal.
    """
    found: dict[str, tuple[Path, str]] = {}
    for path in paths:
        path, photos = Path(os.path.expanduser(path)), [Path(photo) for photo in expand_path(path)]
        if not photos:
            raise InputError(f"{path}: no image found; name photos, a folder, or a pattern such as 'photos/*.jpg'")
        for photo in photos:
            folder = path if path.is_dir() else photo.parent
            found.setdefault(os.path.realpath(photo), (folder, photo.relative_to(folder).as_posix()))
    with ThreadPoolExecutor() as pool:  # unlike submit, map does not read the rest after Ctrl-C
        files = [folder / name for folder, name in found.values()]
        sizes = list(progress(pool.map(_read_size, files), "photos", "photo", len(files)))
    counts = Counter(name for _, name in found.values())
    records: dict[str, dict] = {}
    for (folder, name), size in zip(found.values(), sizes, strict=True):
        file = folder / name
        image_id = name if counts[name] == 1 else f"{folder.absolute().name}/{name}"
        if image_id in records:
            raise InputError(f"{records[image_id]['file_name']} and {file} have the same name; rename one of them")
        if isinstance(size, InputError):
            if len(failures) == len(found) - 1:
                raise size
            failures.append(str(size))
            continue
        height, width = size
        records[image_id] = {"file_name": str(file), "image_id": image_id, "height": height, "width": width}
    return list(records.values())


def _read_size(file: Path) -> tuple[int, int] | InputError:
    try:
        image = RecordImage({"file_name": str(file)})
        image.decode(8)  # the header of a cut file is whole
    except InputError as error:
        return error
    return image.height, image.width
