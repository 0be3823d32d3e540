from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlickd.data import ProposalStore, dataset_records, proposals_path

TOOL = Path(__file__).parents[2] / "tools" / "generate_proposals.py"


def run(*arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True)


def test_several_data_sets_to_their_default_places(tiny_scenes: Path) -> None:
    result = run(
        "--dataset", "tiny_train", "tiny_test", "--workers", "0", "--max-proposals", "40", "--set", "longer_side", "100"
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    for line, name, count in zip(lines, ("tiny_train", "tiny_test"), (24, 12), strict=True):
        path = proposals_path(name, "edge_boxes")
        assert re.fullmatch(rf"{re.escape(str(path))}: {count} images, [\d.]+ proposals per image, [\d.]+ s", line)
        store = ProposalStore.open(path)
        store.check(dataset_records(name))
        assert store.header["parameters"]["longer_side"] == 100
        assert max(len(store[image_id][1]) for image_id in store) == 40
        path.unlink()


def test_output_and_text_parameter(tiny_scenes: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.proposals"
    arguments = ["--dataset", "tiny_test", "--method", "selective_search", "--output", output]
    result = run(*arguments, "--set", "mode", "single", "--set", "longer_side", "100")
    assert result.returncode == 0, result.stderr
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
def test_bad_arguments_end_in_one_line(tiny_scenes: Path, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert message in result.stderr


def test_help_has_an_example() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert "example:" in result.stdout and "--dataset animals_train" in result.stdout
