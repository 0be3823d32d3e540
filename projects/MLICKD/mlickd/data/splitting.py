"""Make a folder dataset from photos and a file of labels: training, test and unlabeled photos."""

import csv
import hashlib
import io
import logging
from pathlib import Path

import numpy as np

from mlickd.errors import InputError, shorten_list
from mlickd.files import expand_path, write_whole_file

from .checking.image_checks import check_images, look_alike_groups, similar_images
from .records import label_targets
from .sources.folder import read_photo_labels

logger = logging.getLogger(__name__)


def split_photos(photos: Path, labels: Path, unlabeled: str, output: Path, num_parts: int) -> int:
    """Write the folder dataset `data/photos` in ``output``, and return the number of its unlabeled photos.

    The split `test` is one of ``num_parts`` parts of the photos in the file ``labels``, and `train` has the others.
    `unlabeled` has the other photos of both folders, without copies and look-alikes of test photos. The splits depend
    only on the photos and their labels. Photos are linked, not copied. Unreadable photos are left out with a warning.

    Raises:
        InputError: a folder or the file is wrong, or there are too few photos.
    """
    roots = {"photos": photos} | ({"unlabeled": Path(unlabeled)} if unlabeled else {})
    if wrong := [root for root in roots.values() if not root.is_dir()]:
        raise InputError(f"{wrong[0]}: is not a folder; name a folder of photos")
    classes, rows = read_photo_labels(labels, photos)
    found, unknown = {("photos", name): values for name, values in rows.items()}, set(range(len(classes)))
    for place, root in roots.items():
        for name in (Path(path).relative_to(root).as_posix() for path in expand_path(root)):
            # Tables cannot list names with control characters.
            if name.isprintable() and output.resolve() not in (root.resolve() / name).parents:
                found.setdefault((place, name), (set(), unknown))
    records = [
        {"image_id": f"{place}/{name}", "file_name": str(roots[place] / name), "labels": yes, "ignored_labels": ignored}
        for (place, name), (yes, ignored) in found.items()
    ]
    # Not in the order of the file, which may be sorted by class.
    records.sort(key=lambda record: hashlib.sha256(record["image_id"].encode()).digest())
    images = check_images(records, title="photos")
    if problems := [image.problem for image in images if image.problem]:
        problem = f"cannot be read and are left out: {shorten_list(problems, 3)}"
        logger.warning("%d of %d photos %s", len(problems), len(images), problem)
    images = [image for image in images if not image.problem]
    labeled = [image for image in images if image.record["ignored_labels"] != unknown]
    if len(labeled) < 10:
        raise InputError(f"{labels}: has labels of {len(labeled)} readable photos; label at least 10")
    positive = label_targets([image.record for image in labeled], len(classes)) == 1
    in_test = stratified_part(positive, look_alike_groups(labeled), num_parts)
    absent = [classes[label] for label in np.flatnonzero(~positive[~in_test].any(axis=0))]
    if absent or not positive[in_test].any():
        problem = f"has no photo to learn {shorten_list(absent)}" if absent else "has no label for a test"
        raise InputError(f"{labels}: {problem}; label more photos, or list the other classes in classes.txt next to it")
    train, test = ([labeled[index] for index in np.flatnonzero(part)] for part in (~in_test, in_test))
    known = {image.digest for image in labeled}
    others = list({image.digest: image for image in images if image.digest not in known}.values())
    similar = {record["image_id"] for _, record in similar_images(test, others)}
    others = [image for image in others if image.record["image_id"] not in similar]
    folder, remedy = output / "data" / "photos", "make room, or give another --output"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for place, root in roots.items():
        (folder / "images" / place).unlink(missing_ok=True)
        (folder / "images" / place).symlink_to(root.resolve())
    write_whole_file(folder / "classes.txt", "".join(f"{name}\n" for name in classes), remedy)
    for split, part in (("train", train), ("test", test), ("unlabeled", others)):
        targets, table = label_targets([image.record for image in part], len(classes)).tolist(), io.StringIO()
        rows = ([image.record["image_id"], *row] for image, row in zip(part, targets, strict=True))
        csv.writer(table, lineterminator="\n").writerows([["file_name", *classes], *rows])
        write_whole_file(folder / f"labels_{split}.csv", table.getvalue(), remedy)
    counts = f"{len(labeled)} labeled photos, {len(test)} of them for the test; {len(others)} unlabeled photos"
    logger.info("%s: %s; copies left out: %d", labels, counts, len(images) - len(labeled) - len(others))
    return len(others)


def stratified_part(positive: np.ndarray, groups: np.ndarray, num_parts: int) -> np.ndarray:
    """Choose one of ``num_parts`` parts of N images by iterative stratification (Sechidis et al., 2011).

    The part has about the same share of each class and of all images. Images of a group stay together. The only image
    of a class is not in the part.

    Args:
        positive: (N, C) bool, whether an image has a class.
        groups: (N,) index of each image's group.
        num_parts: number of parts, at least 2.

    Returns:
        (N,) bool, whether an image is in the part.
    """
    values = np.column_stack([positive, np.ones(len(positive))])  # the last column counts images
    counts = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(counts, groups, values)
    wanted = np.outer([1 - 1 / num_parts, 1 / num_parts], counts.sum(axis=0))  # outside of the part, in the part
    side = np.full(len(counts), -1)
    while (waiting := side < 0).any():
        left = counts[waiting].sum(axis=0)
        left[-1] += len(groups) * left.sum()  # images without a class come last
        column = np.where(left > 0, left, np.inf).argmin()
        # Large groups first, because small groups fill gaps.
        for group in sorted(np.flatnonzero(waiting & (counts[:, column] > 0)), key=lambda group: -counts[group, -1]):
            side[group] = wanted[:, column].argmax()
            wanted[side[group]] -= counts[group]
    return side[groups] == 1
