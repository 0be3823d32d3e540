"""Whether two lists of datasets have the same labels of the same photos."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlickd.errors import InputError
from mlickd.studies.labeled_photos import same_labeled_photos


def test_parts_make_up_the_whole_in_any_order(tiny_scenes: Path) -> None:
    parts = [f"tiny_train@{number}of3" for number in (3, 1, 2)]
    assert same_labeled_photos(parts, ["tiny_train"])
    assert same_labeled_photos(["tiny_train@1of3", "tiny_train@not1of3"], parts)
    assert not same_labeled_photos(parts[:2], ["tiny_train"]), "one part is missing"
    assert not same_labeled_photos([*parts, parts[0]], ["tiny_train"]), "one part is there twice"
    assert not same_labeled_photos(["tiny_test"], ["tiny_train"])


def test_labels_count_and_not_photos_alone(tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "images").symlink_to(tiny_scenes / "tiny" / "images")
    lines = (tiny_scenes / "tiny" / "labels_train.csv").read_text().splitlines()
    (folder / "classes.txt").write_text((tiny_scenes / "tiny" / "classes.txt").read_text())
    (folder / "labels_train.csv").write_text("\n".join(lines) + "\n")
    first, _, labels = lines[1].partition(",")
    (folder / "labels_other.csv").write_text(
        "\n".join([lines[0], f"{first},{labels.split(';')[0]}", *lines[2:]]) + "\n"
    )
    assert ";" in labels, "the photo has two labels, of which one is left"
    assert not same_labeled_photos(["pets_other"], ["pets_train"])
    with pytest.raises(InputError, match="there is no dataset"):
        same_labeled_photos(["pets_train"], ["pets_trian"])


def test_equal_lists_need_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert same_labeled_photos(("gone_train",), ["gone_train"])
