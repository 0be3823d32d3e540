from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlickd.data import dataset_records
from mlickd.data.proposals.generation import generate_proposals, image_list_digest
from mlickd.data.proposals.methods import proposals_for_image
from mlickd.data.proposals.store import ProposalStore
from mlickd.errors import InputError

QUICK = {"longer_side": 80}

SLOWLY = """
import json, sys, time
from mlickd.data.proposals import generation

def slowly(*arguments, quickly=generation.proposals_for_image):
    time.sleep(0.3)
    return quickly(*arguments)

generation.proposals_for_image = slowly
if __name__ == "__main__":
    records, parameters, path = json.loads(sys.argv[1])
    generation.generate_proposals(records, "edge_boxes", parameters, path, workers=2)
"""


@pytest.fixture
def records(tiny_scenes: Path) -> list[dict]:
    return dataset_records("tiny_test")


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_store_holds_what_one_image_gives(records: list[dict], tmp_path: Path) -> None:
    path = generate_proposals(records, "edge_boxes", QUICK, tmp_path / "new" / "p", workers=0)
    store = ProposalStore.open(path)
    store.check(records)
    assert set(store) == {record["image_id"] for record in records}
    image = np.ascontiguousarray(np.asarray(Image.open(records[3]["file_name"]))[..., ::-1])
    boxes, scores = proposals_for_image(image, "edge_boxes", QUICK)
    np.testing.assert_array_equal(store[records[3]["image_id"]][0], boxes)
    np.testing.assert_array_equal(store[records[3]["image_id"]][1], scores)
    assert store.header["parameters"]["longer_side"] == 80
    assert store.header["parameters"]["max_proposals"] == 500
    assert [entry.name for entry in path.parent.iterdir()] == ["p"]


def test_records_may_have_no_sizes(records: list[dict], tmp_path: Path) -> None:
    sizeless = [{"file_name": record["file_name"], "image_id": record["image_id"]} for record in records[:2]]
    store = ProposalStore.open(generate_proposals(sizeless, "edge_boxes", QUICK, tmp_path / "p", workers=0))
    store.check(sizeless)
    store.check(records[:2])  # raises where a box leaves its image
    with_sizes = ProposalStore.open(generate_proposals(records[:2], "edge_boxes", QUICK, tmp_path / "q", workers=0))
    for record in sizeless:
        np.testing.assert_array_equal(store[record["image_id"]][0], with_sizes[record["image_id"]][0])


@pytest.mark.parametrize("method", ["edge_boxes", "selective_search"])
def test_same_bytes_for_any_number_of_workers(method: str, records: list[dict], tmp_path: Path) -> None:
    paths = [
        generate_proposals(order, method, QUICK, tmp_path / str(workers), workers)
        for workers, order in ((0, records), (1, records[::-1]), (2, records))
    ]
    assert len({path.read_bytes() for path in paths}) == 1


def test_a_complete_store_is_left_alone(records: list[dict], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = generate_proposals(records, "edge_boxes", QUICK, tmp_path / "p", workers=0)
    before = path.stat()
    generate_proposals(records, "edge_boxes", {"longer_side": 80, "beta": 0.75}, path, workers=0)
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_ino == before.st_ino
    with caplog.at_level(logging.WARNING):
        generate_proposals(records[1:], "edge_boxes", {"longer_side": 60}, path, workers=0)
    assert "was made with another parameters, image_digest; making it again" in caplog.text
    assert len(ProposalStore.open(path)) == len(records) - 1


def test_a_damaged_store_is_made_again(records: list[dict], tmp_path: Path) -> None:
    path = generate_proposals(records, "edge_boxes", QUICK, tmp_path / "p", workers=0)
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    generate_proposals(records, "edge_boxes", QUICK, path, workers=0)
    assert path.read_bytes() == data


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_and_resumed(records: list[dict], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, partial = tmp_path / "p", tmp_path / "p.partial"
    (tmp_path / "slowly.py").write_text(SLOWLY)
    given = [{key: record[key] for key in ("file_name", "image_id", "height", "width")} for record in records]
    arguments = [sys.executable, str(tmp_path / "slowly.py"), json.dumps([given, QUICK, str(path)])]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(lambda: partial.exists() and partial.stat().st_size > 8000)
        with pytest.raises(InputError, match="another process is making these proposals"):
            generate_proposals(records, "edge_boxes", QUICK, path, workers=0)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL and not path.exists()
    with caplog.at_level(logging.INFO):
        generate_proposals(records, "edge_boxes", QUICK, path, workers=0)
    assert "images that were done before: " in caplog.text and f" of {len(records)}" in caplog.text
    uninterrupted = generate_proposals(records, "edge_boxes", QUICK, tmp_path / "uninterrupted", workers=0)
    assert path.read_bytes() == uninterrupted.read_bytes()
    assert not partial.exists()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "image file not found"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "cannot be read as an image"),
        (lambda path: path.write_text("no image"), "cannot be read as an image"),
        (lambda path: Image.new("RGB", (8, 5)).save(path), "the image is 8x5 pixels, its record says 16x16"),
    ],
)
def test_bad_image(damage, message: str, workers: int, tmp_path: Path) -> None:
    records = []
    for index in range(3):
        path = tmp_path / f"{index}.png"
        Image.effect_noise((16, 16), 50).convert("RGB").save(path)
        records.append({"file_name": str(path), "image_id": index, "height": 16, "width": 16})
    damage(tmp_path / "1.png")
    with pytest.raises(InputError, match=f"1.png: {message}") as error:
        generate_proposals(records, "edge_boxes", QUICK, tmp_path / "p", workers)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "p").exists()


def test_wrong_method_and_image_listed_twice(records: list[dict], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown proposal method boxes"):
        generate_proposals(records, "boxes", None, tmp_path / "p", workers=0)
    with pytest.raises(InputError, match="occurs twice"):
        generate_proposals([*records, records[0]], "edge_boxes", None, tmp_path / "p", workers=0)
    assert list(tmp_path.iterdir()) == []


def test_digest_follows_the_images_and_not_their_order(records: list[dict], tmp_path: Path) -> None:
    digest = image_list_digest(records)
    assert digest == image_list_digest(records[::-1])
    assert digest != image_list_digest(records[1:])
    assert digest != image_list_digest([{**records[0], "width": 7}, *records[1:]])
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(Path(records[0]["file_name"]).read_bytes())
    assert digest == image_list_digest([{**records[0], "file_name": str(copy)}, *records[1:]])
    with copy.open("ab") as file:
        file.write(b"\0")
    assert digest != image_list_digest([{**records[0], "file_name": str(copy)}, *records[1:]])


def test_workers_leave_the_random_state_alone(records: list[dict], tmp_path: Path) -> None:
    import torch

    before = torch.random.get_rng_state(), os.getcwd()
    generate_proposals(records[:2], "selective_search", QUICK, tmp_path / "p", workers=1)
    assert torch.equal(torch.random.get_rng_state(), before[0])
