from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mlickd.data import ProposalStore, dataset_records, proposals_path
from mlickd.errors import run_tool

SCRIPT = Path(__file__).parents[2] / "tools" / "generate_proposals.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location("generate_proposals", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The tool, called with these arguments."""

    def call(*arguments: object) -> None:
        monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
        run_tool(tool.main)

    return call


def test_several_data_sets_to_their_default_places(
    tiny_scenes: Path,
    run: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "tiny").symlink_to(tiny_scenes / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    run("--dataset", "tiny_train", "tiny_test", "--workers", 0, "--max-proposals", 40, "--set", "longer_side", 100)
    lines = capsys.readouterr().out.splitlines()
    for line, name, count in zip(lines, ("tiny_train", "tiny_test"), (24, 12), strict=True):
        path = proposals_path(name, "edge_boxes")
        assert path.parent == tmp_path / "proposals"
        assert re.fullmatch(rf"{re.escape(str(path))}: {count} images, [\d.]+ proposals per image, [\d.]+ s", line)
        store = ProposalStore.open(path)
        store.check(dataset_records(name))
        assert store.header["parameters"]["longer_side"] == 100
        assert max(len(store[image_id][1]) for image_id in store) == 40


def test_output_and_text_parameter(tiny_scenes: Path, run: Callable[..., None], tmp_path: Path) -> None:
    output = tmp_path / "out.proposals"
    arguments = ["--dataset", "tiny_test", "--method", "selective_search", "--output", output]
    run(*arguments, "--set", "mode", "single", "--set", "longer_side", 100)
    assert ProposalStore.open(output).header["parameters"]["mode"] == "single"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "nowhere_train"], "nowhere_train"),
        (["--dataset", "tiny_train", "tiny_test", "--output", "x"], "--output: names one file"),
        (["--dataset", "tiny_test", "--workers", "-1"], "--workers: -1 is below 0"),
        (["--dataset", "tiny_test", "--method", "edges"], "unknown proposal method edges"),
        (["--dataset", "tiny_test", "--set", "depth", "3"], "unknown parameter depth"),
    ],
)
def test_bad_arguments_end_in_one_line(
    tiny_scenes: Path,
    run: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and message in last


def test_help_has_an_example(run: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run("--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "example:" in text and "--dataset animals_train" in text


def test_folder_list_shards_and_merge(tiny_scenes: Path, run: Callable[..., None], tmp_path: Path) -> None:
    images = tiny_scenes / "tiny" / "images"
    names = sorted(path.name for path in images.glob("test_*"))
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(names[:5]))
    common = ["--method", "sliding", "--max-proposals", 30, "--workers", 0]
    arguments = ["--images", listed, "--image-root", images, "--output", tmp_path / "parts", *common]
    run(*arguments, "--shard", "2/2")
    run(*arguments, "--shard", "1/2")
    run(*arguments, "--merge", 2)
    run(*arguments[:4], "--output", tmp_path / "whole", *common)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert list(ProposalStore.open(tmp_path / "whole")) == names[:5]
    run("--images", images, "--output", tmp_path / "folder", *common)
    assert len(ProposalStore.open(tmp_path / "folder")) == 36


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "."], "--images: photos of no data set have no default place; give --output"),
        (["--images", "nowhere", "--output", "x"], "nowhere: no such file or folder"),
        (["--dataset", "tiny_test", "--image-root", "x"], "--image-root: is for the names in a list"),
        (["--dataset", "tiny_test", "--shard", "0/2"], "--shard: 0/2 is not I/N"),
        (["--dataset", "tiny_test", "--shard", "3/2"], "--shard: 3/2 is not I/N"),
        (["--dataset", "tiny_test", "--shard", "half"], "--shard: half is not I/N"),
        (["--dataset", "tiny_test", "--merge", "0"], "--merge: 0 is below 1"),
        (["--dataset", "tiny_test", "--merge", "2"], "shard-1-of-2: shard 1/2 is missing"),
        (["--dataset", "tiny_test", "--method", "structured_edge_boxes"], "give the path of a structured forest"),
    ],
)
def test_bad_parts_and_places_end_in_one_line(
    tiny_scenes: Path,
    run: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and message in last
