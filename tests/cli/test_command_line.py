"""Parsers, command names and option values."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlickd.cli import command_line
from mlickd.cli.command_line import as_called, command_parser, typed_command
from mlickd.errors import InputError

ROOT = Path(__file__).parents[2]
TEXT = "run `python tools/train_net.py --resume`, see tools/check_dataset.py and tools/install_detectron2.py"
COMMANDS = "run `mlickd train --resume`, see mlickd check-dataset and tools/install_detectron2.py"


@pytest.mark.parametrize(
    ("program", "text", "typed"),
    [
        ("my tools/evaluate.py", TEXT, "python 'my tools/evaluate.py' --output 'my results'"),
        ("mlickd evaluate", COMMANDS, "mlickd evaluate --output 'my results'"),
    ],
)
def test_messages_name_commands_as_they_were_called(monkeypatch, program: str, text: str, typed: str) -> None:
    monkeypatch.setattr("sys.argv", [program, "--output", "my results"])
    assert as_called(TEXT) == text and typed_command() == typed
    parser = command_parser("Purpose.", TEXT)
    assert parser.prog == program.rpartition("/")[2] and text in parser.format_help()


def test_shards_come_from_the_option_or_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    def shard(*arguments: str) -> tuple[int, int]:
        parser = command_parser("Purpose.", "")
        command_line.add_shard_argument(parser, "part")
        return parser.parse_args(arguments).shard

    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert shard("--shard", "2/3") == (2, 3)
    assert shard() == (1, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert shard() == (4, 4)
    assert shard("--shard", "2/3") == (2, 3)
    for text in ("0/2", "3/2", "half", ""):
        with pytest.raises(InputError, match="--shard"):
            shard("--shard", text)


def test_errors_of_argparse_are_input_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["mlickd thing"])
    parser = command_parser("Purpose.", "")
    parser.add_subparsers().add_parser("part").add_argument("--number", type=command_line.positive_int)
    for arguments, names in (
        (["part", "--number", "0"], "--number: .*`mlickd thing part --help`"),
        (["part", "--nonsense"], "--nonsense; `mlickd thing --help`"),
    ):
        with pytest.raises(InputError, match=names):
            parser.parse_args(arguments)


def test_an_installed_package_has_scripts_but_no_configurations(monkeypatch, tmp_path: Path) -> None:
    assert command_line.shipped_config("--configs", "scenes") == ROOT / "configs" / "scenes"
    assert command_line.scripts_folder() == ROOT / "tools"
    monkeypatch.setattr(command_line, "REPOSITORY", tmp_path)
    with pytest.raises(InputError, match="--configs.*configs/scenes"):
        command_line.shipped_config("--configs", "scenes")
    command = [sys.executable, command_line.scripts_folder() / "train_net.py", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0 and result.stdout.startswith("usage: train_net.py"), result.stderr
