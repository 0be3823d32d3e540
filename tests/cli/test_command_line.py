from __future__ import annotations

import pytest

from mlickd.cli.command_line import as_called, command_parser, parse_shard, read_seeds, typed_command
from mlickd.errors import InputError

TEXT = "make it with `python tools/train_net.py --resume`, see tools/check_dataset.py and tools/install_detectron2.py"


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("/home/me/tools/evaluate.py", TEXT),
        (
            "mlickd evaluate",
            "make it with `mlickd train --resume`, see mlickd check-dataset and tools/install_detectron2.py",
        ),
    ],
)
def test_commands_are_named_as_they_were_called(monkeypatch: pytest.MonkeyPatch, program: str, text: str) -> None:
    monkeypatch.setattr("sys.argv", [program])
    assert as_called(TEXT) == text
    parser = command_parser("What it does.", TEXT)
    assert parser.prog == program.rpartition("/")[2] and text in parser.format_help()


def test_the_typed_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["my tools/compare.py", "--output", "my results"])
    assert typed_command() == "python 'my tools/compare.py' --output 'my results'"
    monkeypatch.setattr("sys.argv", ["mlickd compare", "--output", "my results"])
    assert typed_command() == "mlickd compare --output 'my results'"


def test_seeds_are_whole_numbers() -> None:
    assert read_seeds("3,1,2") == [3, 1, 2]
    for text in ("", "1,,2", "1 2", "1.5"):
        with pytest.raises(InputError, match=f"--seeds {text}: give whole numbers"):
            read_seeds(text)


def test_shards_come_from_the_option_else_from_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert parse_shard("2/3") == (2, 3)
    assert parse_shard(None) == (1, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert parse_shard(None) == (4, 4)
    assert parse_shard("2/3") == (2, 3)
    for text in ("0/2", "3/2", "half", ""):
        with pytest.raises(InputError, match="--shard"):
            parse_shard(text)


def test_what_cannot_be_parsed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["mlickd thing"])
    parser = command_parser("What it does.", "")
    parser.add_subparsers().add_parser("part").add_argument("--number", type=int)
    assert "--debug" in parser.format_help()
    for arguments, message in (
        (["part", "--number", "x"], "argument --number: invalid int value: 'x'; see `mlickd thing part --help`"),
        (["part", "--nonsense"], "unrecognized arguments: --nonsense; see `mlickd thing --help`"),
    ):
        with pytest.raises(InputError, match=message):
            parser.parse_args(arguments)
