"""A custom dataset, and training on it. The labels of a photo `rex.jpg` are in a text file `rex.txt`."""

import os
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from mlickd.cli.train_net import main
from mlickd.errors import InputError, run_tool

CLASSES = ("cat", "dog", "person")


def load_sidecars(folder: Path) -> list[dict]:
    """Return a record for each photo, with the indices of its labels."""
    records = []
    for photo in sorted(folder.glob("*.jpg")):
        names = photo.with_suffix(".txt").read_text().split()
        if not set(names) <= set(CLASSES):
            raise InputError(f"{photo.with_suffix('.txt')}: {names} are not all in {', '.join(CLASSES)}")
        labels = sorted(CLASSES.index(name) for name in names)
        records.append({"file_name": str(photo), "image_id": photo.name, "labels": labels})
    return records


for split in ("train", "test"):
    folder = Path(os.environ.get("PHOTOS", "photos")) / split
    DatasetCatalog.register(f"sidecar_{split}", lambda folder=folder: load_sidecars(folder))
    MetadataCatalog.get(f"sidecar_{split}").thing_classes = list(CLASSES)


if __name__ == "__main__":
    run_tool(main)
