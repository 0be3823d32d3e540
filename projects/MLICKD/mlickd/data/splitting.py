"""Make a folder dataset from photos and a file of labels: training, held-out, test and unlabeled photos."""

import csv
import hashlib
import io
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mlickd.errors import InputError, shorten_list
from mlickd.files import expand_path, write_atomic

from .checking.image_checks import CheckedImage, check_images, near_duplicate_groups, near_duplicates
from .records import label_targets
from .sources.folder import read_photo_labels

logger = logging.getLogger(__name__)

# Tables cannot list these names. They can list other spaces, such as in the names of screenshots on macOS.
_UNLISTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def split_photos(photos: Path, labels: Path, unlabeled: str, output: Path, held_out: int) -> tuple[int, list[str]]:
    """Split photos into training, held-out, test and unlabeled photos, and write them as a folder dataset.

    The splits depend only on the photos and their labels. Unlabeled photos are the photos of both folders that
    ``labels`` does not list, without copies, and without near-duplicates of test and held-out photos. Photos are
    linked, not copied. Unreadable photos are skipped with a warning.

    Args:
        photos: folder of photos.
        labels: file with the labels of some of them, see :func:`read_photo_labels`.
        unlabeled: another folder, of photos without labels; empty for none.
        output: folder in which the dataset `data/photos` is written.
        held_out: N. One of N parts of the labeled photos is the test split, and one of N parts of the others is held
            out. With 0, a fifth is the test split, and no photo is held out.

    Returns:
        The number of unlabeled photos, and a line for each unreadable photo.

    Raises:
        InputError: a folder or the file is wrong, or there are too few photos.
    """
    roots = {"photos": photos} | ({"unlabeled": Path(unlabeled)} if unlabeled else {})
    if wrong := [root for root in roots.values() if not root.is_dir()]:
        raise InputError(f"{wrong[0]}: is not a folder; name a folder of photos")
    if output.resolve() in [root.resolve() for root in roots.values()]:
        raise InputError(f"--output {output}: is the folder of the photos; give another")
    classes, images, problems = _read_photos(roots, labels, output)
    splits = _choose_splits(images, classes, labels, held_out)
    _write_dataset(output / "data" / "photos", roots, classes, splits)
    counts = ", ".join(f"{split} {len(images_of_split)}" for split, images_of_split in splits.items())
    left_out = len(images) - sum(map(len, splits.values()))
    logger.info("%s: %s; unlabeled copies and near-duplicates of test photos left out: %d", labels, counts, left_out)
    return len(splits["unlabeled"]), problems


def _read_photos(
    roots: Mapping[str, Path], labels: Path, output: Path
) -> tuple[list[str], list[CheckedImage], list[str]]:
    """Return the class names, the readable photos in an order that depends only on them, and the other problems.

    The ids of photos are ``<key in roots>/<file name>``. Photos that ``labels`` does not list have unknown labels only.
    """
    classes, rows = read_photo_labels(labels, roots["photos"])
    found = {("photos", name): values for name, values in rows.items()}
    for place, root in roots.items():
        names = [Path(path).relative_to(root).as_posix() for path in expand_path(root)]
        if root.resolve() in output.resolve().parents:  # what the command writes is not a photo of the user
            names = [name for name in names if output.resolve() not in (root.resolve() / name).parents]
        if odd := [ascii(name) for name in names if _UNLISTABLE.search(name)]:
            problem = "skipped because of control characters, or bytes that are not UTF-8, in their names"
            logger.warning("%s: photos %s: %d; rename them: %s", root, problem, len(odd), shorten_list(odd, 3))
        usable = ((place, name) for name in names if not _UNLISTABLE.search(name))
        found = dict.fromkeys(usable, (set(), set(range(len(classes))))) | found
    records = [
        {"image_id": f"{place}/{name}", "file_name": str(roots[place] / name), "labels": yes, "ignored_labels": unknown}
        for (place, name), (yes, unknown) in found.items()
    ]
    # Not in the order of the file, which may be sorted by class.
    records.sort(key=lambda record: hashlib.sha256(record["image_id"].encode()).digest())
    images = check_images(records, title="photos")
    if problems := [image.problem for image in images if image.problem]:
        problem = f"cannot be read and are skipped: {shorten_list(problems, 3)}"
        logger.warning("%d of %d photos %s", len(problems), len(images), problem)
    return classes, [image for image in images if not image.problem], problems


def _choose_splits(
    images: Sequence[CheckedImage], classes: Sequence[str], labels: Path, held_out: int
) -> dict[str, list[CheckedImage]]:
    """Divide photos among the splits, see :func:`split_photos`."""
    labeled = [image for image in images if len(image.record["ignored_labels"]) < len(classes)]
    if len(labeled) < 10:
        raise InputError(f"{labels}: has labels of {len(labeled)} readable photos; label at least 10")
    positive = label_targets([image.record for image in labeled], len(classes)) == 1
    groups, names = near_duplicate_groups(labeled), ["train", "test", "held_out"] if held_out else ["train", "test"]
    part = np.zeros(len(labeled), dtype=int)  # index of the split
    for index in range(1, len(names)):
        rest = np.flatnonzero(part == 0)
        part[rest[stratified_part(positive[rest], groups[rest], held_out or 5)]] = index
    if absent := [classes[label] for label in np.flatnonzero(~positive[part == 0].any(axis=0))]:
        remedy = "label more photos, or list the other classes in classes.txt next to it"
        raise InputError(f"{labels}: has no photo to learn {shorten_list(absent)}; {remedy}")
    if not all(positive[part == index].any() for index in range(len(names))):
        count = len(np.unique(groups[positive.any(axis=1)]))  # near-duplicates stay together
        problem = f"only {count} photos that look different have a label, too few for {', '.join(names)}"
        raise InputError(f"{labels}: {problem}; label more photos{', or give --held-out 0' if held_out else ''}")
    splits = {name: [labeled[i] for i in np.flatnonzero(part == index)] for index, name in enumerate(names)}
    known = {image.digest for image in labeled}
    others = list({image.digest: image for image in images if image.digest not in known}.values())
    similar = {record["image_id"] for _, record in near_duplicates([labeled[i] for i in np.flatnonzero(part)], others)}
    splits["unlabeled"] = [image for image in others if image.record["image_id"] not in similar]
    return splits


def _write_dataset(
    folder: Path, roots: Mapping[str, Path], classes: Sequence[str], splits: Mapping[str, Sequence[CheckedImage]]
) -> None:
    """Write a folder dataset with a table for each split, and with links to the folders of photos."""
    remedy = "free disk space, or give another --output"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for place, root in roots.items():
        (folder / "images" / place).unlink(missing_ok=True)
        (folder / "images" / place).symlink_to(root.resolve())
    write_atomic(folder / "classes.txt", "".join(f"{name}\n" for name in classes), remedy)
    (folder / "labels_held_out.csv").unlink(missing_ok=True)  # of an earlier call
    for split, images in splits.items():
        records = [image.record for image in images]
        targets, table = label_targets(records, len(classes)).tolist(), io.StringIO()
        rows = ([record["image_id"], *row] for record, row in zip(records, targets, strict=True))
        csv.writer(table, lineterminator="\n").writerows([["file_name", *classes], *rows])
        write_atomic(folder / f"labels_{split}.csv", table.getvalue(), remedy)


def stratified_part(positive: np.ndarray, groups: np.ndarray, num_parts: int) -> np.ndarray:
    """Choose one of ``num_parts`` parts of N images by iterative stratification (Sechidis et al., 2011).

    The class frequencies in the part approximate those of all images. Images of a group stay together. The only image
    of a class is not in the part.

    Args:
        positive: (N, C) bool, whether an image has a class.
        groups: (N,) number of each image's group.
        num_parts: number of parts, at least 2.

    Returns:
        (N,) bool, whether an image is in the part.
    """
    groups = np.unique(groups, return_inverse=True)[1]
    values = np.column_stack([positive, np.ones(len(positive))])  # the last column counts images
    counts = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(counts, groups, values)
    wanted = np.outer([1 - 1 / num_parts, 1 / num_parts], counts.sum(axis=0))  # outside of the part, in the part
    chosen = np.full(len(counts), -1)  # 1 in the part, 0 outside of it, -1 undecided
    while (waiting := chosen < 0).any():
        remaining = counts[waiting].sum(axis=0)
        remaining[-1] += len(groups) * remaining.sum()  # images without a class come last
        column = np.where(remaining > 0, remaining, np.inf).argmin()
        # Large groups first, because small groups fill gaps.
        for group in sorted(np.flatnonzero(waiting & (counts[:, column] > 0)), key=lambda group: -counts[group, -1]):
            chosen[group] = wanted[:, column].argmax()
            wanted[chosen[group]] -= counts[group]
    return chosen[groups] == 1
