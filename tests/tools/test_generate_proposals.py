from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlickd.data import ProposalStore, dataset_records, proposals_path


@pytest.fixture
def run(tiny_scenes: Path, call_tool: Callable[..., Any]) -> Callable[..., Any]:
    """The tool, called with these arguments."""
    return partial(call_tool, "generate_proposals")


def test_several_data_sets_to_their_default_places(
    tiny_scenes: Path, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny").symlink_to(tiny_scenes / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    names = ("tiny_train", "tiny_test")
    result = run("--dataset", *names, "--workers", 0, "--max-proposals", 40, "--set", "longer_side", 100)
    lines = result.out.splitlines()
    for line, name, count in zip(lines, names, (24, 12), strict=True):
        path = proposals_path(name, "edge_boxes")
        assert path.parent == tmp_path / "proposals"
        assert re.fullmatch(rf"{re.escape(str(path))}: {count} images, [\d.]+ proposals per image, [\d.]+ s", line)
        store = ProposalStore.open(path)
        store.check(dataset_records(name))
        assert store.header["parameters"]["longer_side"] == 100
        assert max(len(store[image_id][1]) for image_id in store) == 40


def test_parts_share_the_proposals_of_the_whole(
    tiny_scenes: Path, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny").symlink_to(tiny_scenes / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    result = run("--dataset", "tiny_test@1of2", "tiny_test@not1of2", "--workers", 0, "--set", "longer_side", 60)
    (line,) = result.out.splitlines()
    assert line.startswith(f"{proposals_path('tiny_test', 'edge_boxes')}: 12 images")


def test_output_and_text_parameter(run: Callable[..., Any], tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = ["--dataset", "tiny_test", "--method", "selective_search", "--output", output]
    run(*arguments, "--set", "mode", "single", "--set", "longer_side", 100)
    assert ProposalStore.open(output).header["parameters"]["mode"] == "single"


def test_lists_folders_and_parts(tiny_scenes: Path, run: Callable[..., Any], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("mlickd.data.proposals.generation.IMAGES_PER_SHARD", 2)
    images = tiny_scenes / "tiny" / "images"
    names = sorted(path.name for path in images.glob("test_*"))[:5]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(names))
    arguments = ["--images", listed, "--image-root", images, "--method", "sliding", "--max-proposals", 30]
    output = ["--workers", 0, "--output"]
    assert "part 2 of 2" in run(*arguments, *output, tmp_path / "parts", "--shard", "2/2").out
    monkeypatch.setenv("RANK", "0")  # of torchrun
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "5 images" in run(*arguments, *output, tmp_path / "parts").out
    run(*arguments, *output, tmp_path / "whole", "--shard", "1/1")
    parts, whole = ProposalStore.open(tmp_path / "parts"), ProposalStore.open(tmp_path / "whole")
    assert list(whole) == names and parts.digest() == whole.digest()
    run("--images", images, "--method", "sliding", *output, tmp_path / "folder", "--shard", "1/1")
    assert len(ProposalStore.open(tmp_path / "folder")) == 36


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "nowhere_train"], "nowhere_train"),
        (["--dataset", "tiny_train", "tiny_test", "--output", "x"], "--output"),
        (["--dataset", "tiny_test", "--workers", "-1"], "--workers: -1"),
        (["--dataset", "tiny_test", "--method", "edges"], "edges"),
        (["--dataset", "tiny_test", "--set", "depth", "3"], "depth"),
        (["--dataset", "tiny_test", "--image-root", "x"], "--image-root"),
        (["--dataset", "tiny_test", "--shard", "3/2"], "--shard: 3/2"),
        (["--dataset", "tiny_test", "--method", "structured_edge_boxes"], "model ''"),
        (["--images", "."], "--output"),
        (["--images", "nowhere", "--output", "x"], "nowhere"),
    ],
)
def test_bad_arguments_end_in_one_line(run: Callable[..., Any], arguments: list[str], message: str) -> None:
    run(*arguments).assert_ends_in_one_line(message)
