"""The content of a store does not depend on workers, parts or interruptions, and one message names all bad images."""

import itertools
import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from mlickd.data import dataset_records, propose
from mlickd.data.proposals import dataset_proposals
from mlickd.data.proposals.dataset_proposals import generate_proposals
from mlickd.data.proposals.store import image_list_digest
from mlickd.errors import InputError

QUICK = {"longer_side": 80}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_proposals, "IMAGES_PER_SHARD", 5)


@pytest.fixture
def records(tiny_scenes: Path) -> list[dict]:
    return dataset_records("tiny_test")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_store_has_all_images_and_parameters(records: list[dict], tmp_path: Path) -> None:
    store = generate_proposals(records, "edge_boxes", QUICK, tmp_path / "new" / "p", workers=0)
    store.check(records)
    assert list(store) == [record["image_id"] for record in records]
    assert len(content(store.path)) == 3
    assert (store.header["parameters"]["longer_side"], store.header["parameters"]["max_proposals"]) == (80, 500)
    without_sizes = [{key: record[key] for key in ("file_name", "image_id")} for record in records[:2]]
    generate_proposals(without_sizes, "edge_boxes", QUICK, tmp_path / "q", workers=0).check(records[:2])


@pytest.mark.parametrize("method", ["edge_boxes", "selective_search"])
def test_workers_and_parts_do_not_change_the_bytes(method: str, records: list[dict], tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    generate_proposals(records, method, QUICK, tmp_path / "one", workers=0)
    generate_proposals(records, method, QUICK, tmp_path / "many", workers=2)
    assert generate_proposals(records, method, QUICK, tmp_path / "parts", workers=0, part=(2, 2)) is None
    assert len(generate_proposals(records, method, QUICK, tmp_path / "parts", workers=0, part=(1, 2))) == len(records)
    assert content(tmp_path / "one") == content(tmp_path / "many") == content(tmp_path / "parts")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_stopped_command_continues(records: list[dict], tmp_path: Path, monkeypatch, caplog) -> None:
    calls = itertools.count()

    def stop_at_the_eighth(*arguments: object):
        if next(calls) == 7:
            raise KeyboardInterrupt
        return propose(*arguments)

    monkeypatch.setattr(dataset_proposals, "propose", stop_at_the_eighth)
    with pytest.raises(KeyboardInterrupt):
        generate_proposals(records, "edge_boxes", QUICK, tmp_path / "p", workers=0)
    (tmp_path / "p" / "x.unfinished").touch()  # a killed process leaves such a file
    first = content(tmp_path / "p")["00000-of-00003.safetensors"]
    with caplog.at_level(logging.INFO):
        generate_proposals(records, "edge_boxes", QUICK, tmp_path / "p", workers=0)
    assert next(calls) == 8 + 7 and "2 of 3" in caplog.text
    monkeypatch.undo()
    assert content(tmp_path / "p")["00000-of-00003.safetensors"] == first and len(content(tmp_path / "p")) == 3


def test_outdated_shards_are_made_again(records: list[dict], tmp_path: Path, monkeypatch, caplog) -> None:
    calls: list[object] = []
    monkeypatch.setattr(dataset_proposals, "propose", lambda *arguments: (calls.append(0), propose(*arguments))[1])

    def count_images(parameters: dict, records: list[dict] = records) -> int:
        calls.clear()
        generate_proposals(records, "edge_boxes", parameters, tmp_path, workers=0)
        return len(calls)

    assert count_images(QUICK) == 12
    assert count_images(QUICK | {"beta": 0.75}) == 0, "the default"
    before = content(tmp_path)
    (tmp_path / "note.txt").touch()
    (tmp_path / "00001-of-00003.safetensors").write_bytes(before["00001-of-00003.safetensors"][:-5])
    assert count_images(QUICK) == 5 and content(tmp_path) == {**before, "note.txt": b""}
    with caplog.at_level(logging.WARNING):
        assert count_images({"longer_side": 60}) == 12
    assert "parameters" in caplog.text
    assert count_images({"longer_side": 60}, records[1:]) == 11
    assert count_images({"longer_side": 60}, records[1:6]) == 5 and len(content(tmp_path)) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_all_bad_images_are_named(workers: int, tmp_path: Path) -> None:
    records = []
    for index in range(12):
        path = tmp_path / f"{index}.png"
        Image.effect_noise((16, 16), 50).convert("RGB").save(path)
        records.append({"file_name": str(path), "image_id": index, "height": 16, "width": 16})
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:300])
    (tmp_path / "2.png").write_text("no image")
    Image.new("RGB", (8, 5)).save(tmp_path / "11.png")
    with pytest.raises(InputError, match=r"/1\.png.*/2\.png.*/11\.png"):
        generate_proposals(records, "edge_boxes", QUICK, tmp_path / "p", workers)
    assert list(content(tmp_path / "p")) == ["00001-of-00003.safetensors"]
    with pytest.raises(InputError, match=r"/1\.png"):  # the proposals of other images stay
        generate_proposals(records[:5], "edge_boxes", QUICK, tmp_path / "p", workers)
    assert list(content(tmp_path / "p")) == ["00001-of-00003.safetensors"]
    (tmp_path / "7.png").unlink()
    with pytest.raises(InputError, match=r"7\.png"):
        generate_proposals(records, "edge_boxes", QUICK, tmp_path / "p", workers)


def test_digest_depends_on_the_images_but_not_on_their_order(records: list[dict], tmp_path: Path) -> None:
    digest = image_list_digest(records)
    assert digest == image_list_digest(records[::-1])
    assert digest != image_list_digest(records[1:])
    assert digest != image_list_digest([{**records[0], "width": 7}, *records[1:]])
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(Path(records[0]["file_name"]).read_bytes() + b"\0")
    assert digest != image_list_digest([{**records[0], "file_name": str(copy)}, *records[1:]])


def test_a_part_replaces_only_its_outdated_shards(records: list[dict], tmp_path: Path) -> None:
    generate_proposals(records, "edge_boxes", {"longer_side": 60}, tmp_path, workers=0)
    old = content(tmp_path)
    assert generate_proposals(records, "edge_boxes", QUICK, tmp_path, workers=0, part=(1, 2)) is None
    assert [name for name, data in content(tmp_path).items() if data == old[name]] == ["00001-of-00003.safetensors"]
