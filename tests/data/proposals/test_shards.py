from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlickd.data import ProposalStore, dataset_records, write_store
from mlickd.data.proposals import shards as shards_module
from mlickd.data.proposals.generation import generate_proposals, shard_path, shard_records
from mlickd.data.proposals.shards import merge_shards
from mlickd.errors import InputError

QUICK = {"longer_side": 80}


@pytest.fixture
def records(tiny_scenes: Path) -> list[dict]:
    return dataset_records("tiny_test")


@pytest.fixture
def parts(records: list[dict], tmp_path: Path) -> Path:
    """Where the store of the three shards is to be."""
    for number, order in ((1, records), (2, records[::-1]), (3, records)):
        generate_proposals(order, "edge_boxes", QUICK, tmp_path / "p", workers=0, shard=(number, 3))
    return tmp_path / "p"


def test_merged_shards_are_the_whole(records: list[dict], parts: Path, tmp_path: Path) -> None:
    assert not parts.exists()
    merge_shards(records[::-1], "edge_boxes", QUICK, parts, 3)
    whole = generate_proposals(records, "edge_boxes", QUICK, tmp_path / "whole", workers=0)
    assert parts.read_bytes() == whole.read_bytes()
    before = parts.stat().st_mtime_ns
    merge_shards(records, "edge_boxes", QUICK, parts, 3)
    assert parts.stat().st_mtime_ns == before


def test_every_image_is_in_one_shard(records: list[dict]) -> None:
    for count in (1, 5, 20):
        parts = [shard_records(records, number, count) for number in range(1, count + 1)]
        ids = [record["image_id"] for part in parts for record in part]
        assert sorted(ids) == sorted(record["image_id"] for record in records)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_more_shards_than_images(records: list[dict], tmp_path: Path) -> None:
    for number in range(1, 4):
        generate_proposals(records[:2], "edge_boxes", QUICK, tmp_path / "p", workers=2, shard=(number, 3))
    assert len(ProposalStore.open(merge_shards(records[:2], "edge_boxes", QUICK, tmp_path / "p", 3))) == 2


def test_a_finished_shard_is_left_alone_and_is_no_whole(records: list[dict], parts: Path) -> None:
    first = shard_path(parts, 1, 3)
    before = first.stat().st_mtime_ns
    assert generate_proposals(records, "edge_boxes", QUICK, parts, workers=0, shard=(1, 3)) == first
    assert first.stat().st_mtime_ns == before
    shutil.copy(first, parts)
    assert len(ProposalStore.open(generate_proposals(records, "edge_boxes", QUICK, parts, workers=0))) == 12


def test_missing_and_foreign_shards(
    records: list[dict], parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = shard_path(parts, 2, 3)
    good = second.read_bytes()

    def refused(message: str, **changes: object) -> None:
        arguments = {"records": records, "method": "edge_boxes", "parameters": QUICK, "path": parts, "count": 3}
        with pytest.raises(InputError, match=message) as error:
            merge_shards(**{**arguments, **changes})
        assert "\n" not in str(error.value) and not parts.exists()

    refused(r"shard-1-of-2: shard 1/2 is missing; make it with --shard 1/2", count=2)
    refused(r"shard-1-of-3: does not belong here: its parameters is .*'longer_side': 80", parameters=None)
    refused(r"its image_digest is", records=records[1:])
    shutil.copy(shard_path(parts, 3, 3), second)
    refused(r"shard-2-of-3: does not belong here: its shard is \[3, 3\], not \[2, 3\]")
    second.write_bytes(good[:-1])
    refused("shard-2-of-3: .*cut short")
    header = ProposalStore.open(shard_path(parts, 1, 3)).header
    key = {name: header[name] for name in ("method", "parameters", "image_digest")}
    write_store(second, [], **key, shard=(2, 3))
    refused("shard-2-of-3: its images are not those of shard 2/3")
    second.unlink()
    refused("shard-2-of-3: shard 2/3 is missing")
    second.write_bytes(good)
    monkeypatch.setattr(shards_module, "library_versions", lambda: {"numpy": "1", "opencv": "1"})
    refused("its libraries is .*, not .*'opencv': '1'")
