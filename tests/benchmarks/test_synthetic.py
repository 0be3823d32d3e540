from __future__ import annotations

from pathlib import Path

import pytest

from mlickd.benchmarks import write_synthetic_coco
from mlickd.data import ProposalStore, class_names, dataset_records
from mlickd.errors import InputError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_it_is_the_same_every_time_and_is_made_once(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_synthetic_coco(tmp_path / name, 70, 5)
    first = content(tmp_path / "first")
    assert first == content(tmp_path / "second")
    (tmp_path / "first/coco/train2014").rename(tmp_path / "moved")
    write_synthetic_coco(tmp_path / "first", 70, 5)
    assert not (tmp_path / "first/coco/train2014").exists()
    write_synthetic_coco(tmp_path / "first", 71, 5)
    assert len(list((tmp_path / "first/coco/train2014").iterdir())) == 71


def test_an_interrupted_call_is_started_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    write_synthetic_coco(tmp_path / "whole", 70, 5)
    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("mlickd.benchmarks.synthetic.write_store", interrupted)
            write_synthetic_coco(tmp_path / "other", 70, 5)
    write_synthetic_coco(tmp_path / "other", 70, 5)
    assert content(tmp_path / "other") == content(tmp_path / "whole")


def test_another_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else than benchmark data"):
        write_synthetic_coco(tmp_path, 70, 5)
    assert content(tmp_path) == {"mine.txt": b"mine"}


def test_it_is_a_sound_data_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    write_synthetic_coco(root, 70, 5)
    name = "coco_2014_train_multilabel"
    try:
        records = dataset_records(name)
        assert len(records) == 70 and len(class_names(name)) == 80
        assert 4 < sum(len(record["annotations"]) for record in records) / 70 < 11
        store = ProposalStore.open(root / "proposals" / f"{name}_edge_boxes.proposals")
        store.check(records)
        assert {len(store[image_id][1]) for image_id in store} == {5}
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
