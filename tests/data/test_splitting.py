"""Photos and a file of labels become a folder dataset with stratified splits, which keep near-duplicates together."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlickd.data.catalog import dataset_records
from mlickd.data.splitting import split_photos, stratified_part
from mlickd.errors import InputError

LABELED = {f"{i}.png": "cat|dog" if i % 3 else "potted plant" for i in range(17)} | {"17.png": ""}
LABELED |= {f"small/{i}.jpg": LABELED[f"{i}.png"] for i in range(6)}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalogs: None) -> Path:
    """Photos 0 to 20, half of the size in `small`; 21 and a copy of 0 in `more`; results in `out`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "photos/out/data"))
    for folder in ("photos/small", "photos/out", "more"):
        Path(folder).mkdir(parents=True)
    for i, name in [*((i, f"photos/{i}.png") for i in range(21)), (0, "more/0.png"), (21, "more/21.png")]:
        pixels = np.random.default_rng(i).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((192, 144), Image.Resampling.BICUBIC)
        image.save(name)
        image.resize((96, 72)).save(f"photos/small/{i}.jpg")
    shutil.copy("photos/20.png", "photos/out/result.png")
    Path("photos/broken.png").write_text("no photo")
    return Path("photos")


def write_table(rows: dict[str, str]) -> Path:
    Path("mine.csv").write_text("file_name,labels\n" + "".join(f"{name},{rows[name]}\n" for name in rows))
    return Path("mine.csv")


def test_photos_become_a_dataset(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copy("more/21.png", "more/line\n.png")
    Path("more/21.png").rename("more/21\u202fPM.png")  # a space in the names of screenshots on macOS
    count, problems = split_photos(photos, write_table(LABELED), "more", photos / "out", 4)
    assert "names: 1; rename them: 'line\\n.png'" in caplog.text
    assert "broken.png" in caplog.text and len(problems) == 1 and "broken.png" in problems[0]
    splits = {name: dataset_records(f"photos_{name}") for name in ("train", "held_out", "test", "unlabeled")}
    train, held_out, test, others = ({record["image_id"] for record in records} for records in splits.values())
    assert sorted([*train, *held_out, *test]) == sorted(f"photos/{name}" for name in LABELED)
    assert 5 <= len(test) <= 7 and 3 <= len(held_out) <= 6
    for part in (train, held_out, test):
        assert all((f"photos/{i}.png" in part) == (f"photos/small/{i}.jpg" in part) for i in range(6)), (
            "near-duplicates"
        )
    expected = {*(f"photos/{i}.png" for i in range(18, 21)), *(f"photos/small/{i}.jpg" for i in range(18, 22))}
    expected |= {f"photos/small/{i}.jpg" for i in range(6, 18) if f"photos/{i}.png" in train}
    expected.add("unlabeled/21\u202fPM.png")
    assert others == expected and count == len(others)
    assert all(record["ignored_labels"] == [0, 1, 2] for record in splits["unlabeled"]), "never negatives"
    (negative,) = (
        record for name in ("train", "held_out", "test") for record in splits[name] if record["labels"] == []
    )
    assert negative["image_id"] == "photos/17.png" and "ignored_labels" not in negative
    tables = {path: path.read_text() for path in photos.rglob("labels_*")}
    table = write_table(dict(reversed(LABELED.items())))
    split_photos(photos.absolute(), table.absolute(), "more", (photos / "out").absolute(), 4)
    assert {path: path.read_text() for path in photos.rglob("labels_*")} == tables
    split_photos(photos, table, "", photos / "out", 0)
    assert not list(photos.rglob("labels_held_out.csv")), "of an earlier call"


def test_labels_may_be_coco_json_and_near_duplicates_are_not_enough(photos: Path) -> None:
    for i in range(1, 12):
        shutil.copy(photos / "0.png", photos / f"copy{i}.png")
    names = [*LABELED, *(f"copy{i}.png" for i in range(1, 12))]
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    categories = [{"id": 0, "name": "pets"}, {"id": 1, "name": "dog"}]
    boxes = [{"image_id": number, "category_id": 1, "bbox": [0, 0, 5, 5]} for number in range(6, 35)]
    Path("pets.json").write_text(json.dumps({"images": images, "categories": categories, "annotations": boxes}))
    split_photos(photos, Path("pets.json"), "", Path("photos/out"), 5)
    records = [record for split in ("train", "held_out", "test") for record in dataset_records(f"photos_{split}")]
    assert sum(record["labels"] == [0] for record in records) == 29 and len(records) == len(names)
    with pytest.raises(InputError, match=r"mine.csv: only 1 photos"):
        split_photos(photos, write_table(dict.fromkeys(names[-11:], "dog")), "", Path("out"), 5)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (dict(list(LABELED.items())[:9]), "mine.csv"),
        (LABELED | {"broken.png": "bird"}, "mine.csv.*bird"),
        (dict.fromkeys(LABELED, ""), "mine.csv"),
        (LABELED | {"absent.png": "cat"}, "mine.csv: line 26.*absent.png"),
    ],
)
def test_too_few_photos_give_one_line(photos: Path, rows: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        split_photos(photos, write_table(rows), "", Path("out"), 5)


def test_photos_may_be_below_the_output(photos: Path) -> None:
    count, _ = split_photos(photos / "small", write_table({f"{i}.jpg": "cat" for i in range(12)}), "", photos, 0)
    assert count == 10
    with pytest.raises(InputError, match="--output photos/small: is the folder of the photos"):
        split_photos(photos / "small", Path("mine.csv"), "", photos / "small", 0)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 4), st.integers(2, 6))
def test_parts_are_stratified_and_groups_stay_together(classes: list[int], size: int, num_parts: int) -> None:
    positive, groups = np.array(classes)[:, None] == range(3), np.arange(len(classes)) // size
    part = stratified_part(positive, groups, num_parts)
    assert all(len(set(part[groups == group])) == 1 for group in groups)
    if size == 1:
        assert np.all(abs(positive[part].sum(axis=0) - positive.sum(axis=0) / num_parts) < 0.51)
