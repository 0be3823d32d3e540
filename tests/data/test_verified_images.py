from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from mlickd.data import verify
from mlickd.data.verified_images import VerifiedImages, cache_directory
from mlickd.data.verify import verify_images
from mlickd.errors import InputError

LONG_AGO = 10**18  # nanoseconds: files just written may change again within a tick of the clock


@pytest.fixture
def records(tmp_path: Path) -> list[dict]:
    found = []
    for name in ("a.png", "sub/b.png", "sub/c é.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(path)
        os.utime(path, ns=(LONG_AGO, LONG_AGO))
        found.append({"file_name": str(path), "height": 6, "width": 8})
    return found


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of the images that were decoded, in a cache of their own."""
    monkeypatch.setenv("MLICKD_CACHE", str(tmp_path / "cache"))
    names: list[str] = []
    whole = verify.image_problem

    def note(record: dict) -> str | None:
        names.append(Path(record["file_name"]).name)
        return whole(record)

    monkeypatch.setattr(verify, "image_problem", note)
    return names


def verified_now(records: list[dict], decoded: list[str]) -> list[str]:
    decoded.clear()
    verify_images(records, remember=True)
    return sorted(decoded)


def test_what_was_decoded_is_not_decoded_again(records, decoded, tmp_path):
    assert verified_now(records, decoded) == ["a.png", "b.png", "c é.jpg"]
    assert verified_now(records, decoded) == []
    assert verified_now(records[1:], decoded) == []
    assert len(list((tmp_path / "cache" / "verified_images").iterdir())) == 2  # one for each folder
    decoded.clear()
    verify_images(records)
    assert len(decoded) == 3


def test_a_relative_path_is_the_same_image(records, decoded, monkeypatch, tmp_path):
    verified_now(records, decoded)
    monkeypatch.chdir(tmp_path)
    assert verified_now([{**records[0], "file_name": "photos/sub/../a.png"}], decoded) == []


def test_what_has_changed_is_decoded_again(records, decoded):
    verified_now(records, decoded)
    path = Path(records[1]["file_name"])
    os.utime(path, ns=(LONG_AGO + 1, LONG_AGO + 1))
    assert verified_now(records, decoded) == ["b.png"]
    path.write_bytes(path.read_bytes()[:-30])
    os.utime(path, ns=(LONG_AGO + 1, LONG_AGO + 1))
    for _ in range(2):  # what is bad is not remembered as good
        with pytest.raises(InputError, match=r"b\.png: unreadable or truncated"):
            verify_images(records, remember=True)


def test_what_changes_while_it_is_decoded_is_decoded_again(records, decoded, monkeypatch):
    whole = verify.image_problem

    def change(record: dict) -> str | None:
        problem = whole(record)
        os.utime(record["file_name"], ns=(LONG_AGO + 7, LONG_AGO + 7))
        return problem

    with monkeypatch.context() as patch:
        patch.setattr(verify, "image_problem", change)
        verify_images(records[:1], remember=True)
    assert verified_now(records[:1], decoded) == ["a.png"]


def test_what_was_written_just_now_is_decoded_again(records, decoded):
    os.utime(records[0]["file_name"])
    verified_now(records, decoded)
    assert verified_now(records, decoded) == ["a.png"]


def test_another_size_in_the_record_is_an_error_still(records, decoded):
    verified_now(records, decoded)
    with pytest.raises(InputError, match=r"a\.png: the image is 8x6 pixels, its record says 9x6"):
        verify_images([{**records[0], "width": 9}], remember=True)
    unknown = [{"file_name": records[0]["file_name"]}]
    assert verified_now(unknown, decoded) == ["a.png"] and verified_now(unknown, decoded) == []


def test_good_images_before_a_bad_one_are_remembered(records, decoded):
    Path(records[2]["file_name"]).write_text("no image")
    with pytest.raises(InputError, match="no image|unreadable"):
        verify_images(records, num_workers=1, remember=True)
    assert verified_now(records[:2], decoded) == []


def test_another_version_of_the_decoder_looks_again(records, decoded, monkeypatch):
    verified_now(records, decoded)
    monkeypatch.setattr(PIL, "__version__", "0.0")
    assert len(verified_now(records, decoded)) == 3


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[]", b'{"pillow": 1}', b'{"images": {"a.png": "x"}}'])
def test_a_damaged_cache_is_as_good_as_none(records, decoded, tmp_path, content):
    verified_now(records, decoded)
    for path in (tmp_path / "cache" / "verified_images").iterdir():
        path.write_bytes(content)
    assert len(verified_now(records, decoded)) == 3
    assert verified_now(records, decoded) == []


def test_a_cache_that_cannot_be_written_is_no_error(records, decoded, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(verified_now(records, decoded)) == 3 and len(verified_now(records, decoded)) == 3


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_home_is_no_error(records, decoded, tmp_path):
    (tmp_path / "cache").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    assert len(verified_now(records, decoded)) == 3 and len(verified_now(records, decoded)) == 3


def test_runs_beside_each_other_add_up(records, tmp_path):
    first, second = VerifiedImages(tmp_path / "v"), VerifiedImages(tmp_path / "v")
    for cache, part in ((first, records[1:2]), (second, records[2:])):
        assert cache.unverified(part) == part
    first.add(records[1:2])
    second.add(records[2:])
    assert VerifiedImages(tmp_path / "v").unverified(records) == records[:1]


def test_the_place_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MLICKD_CACHE", "~/of mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "of mine"
    monkeypatch.delenv("MLICKD_CACHE")
    assert cache_directory().is_absolute() and cache_directory().name == "mlickd"
