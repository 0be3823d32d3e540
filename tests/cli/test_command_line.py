"""Parsers, command names and option values."""

from pathlib import Path

import pytest

from mlickd.cli import command_line
from mlickd.cli.command_line import command_parser, typed_command
from mlickd.config_files import find_config
from mlickd.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("program", "shown"),
    [("my tools/gpu_check.py", "python 'my tools/gpu_check.py'"), ("mlickd train", "mlickd train")],
)
def test_reports_have_the_command(monkeypatch: pytest.MonkeyPatch, program: str, shown: str) -> None:
    monkeypatch.setattr("sys.argv", [program, "--output", "my results"])
    assert typed_command() == f"{shown} --output 'my results'"
    assert command_parser("Purpose.", "").prog == program.rpartition("/")[2]


def test_shards_come_from_the_option_or_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    def shard(*arguments: str) -> tuple[int, int]:
        parser = command_parser("Purpose.", "")
        command_line.add_shard_argument(parser, "part")
        return parser.parse_args(arguments).shard

    assert shard("--shard", "2/3") == (2, 3)
    assert shard() == (1, 1)
    monkeypatch.setenv("RANK", "3")  # other launchers also set these two
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert shard() == (1, 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert shard() == (4, 4)
    assert shard("--shard", "2/3") == (2, 3)
    for text in ("0/2", "3/2", "half", ""):
        with pytest.raises(InputError, match="--shard"):
            shard("--shard", text)


def test_the_home_folder_is_expanded_in_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    parser = command_parser("Purpose.", "")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("others", nargs="*")
    args = parser.parse_args(["--photos=~/a", "mine=~/b.yaml", "~/c", "~none", "a=b~"])
    assert args.photos == Path("/home/anna/a")
    assert args.others == ["mine=/home/anna/b.yaml", "/home/anna/c", "~none", "a=b~"]


def test_shipped_configurations_do_not_replace_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("./configs/folder/cls.yaml") == str(ROOT / "configs" / "folder" / "cls.yaml")
    missing = str(tmp_path / "configs" / "folder" / "cls.yaml")
    assert find_config(missing) == missing and find_config("configs/none.yaml") == "configs/none.yaml"
    (tmp_path / "configs" / "folder").mkdir(parents=True)
    assert find_config("configs/folder") == "configs/folder"
