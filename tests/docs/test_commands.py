"""Commands in help texts and on pages: parsers, torchrun and the configuration accept them."""

import importlib
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from mlickd.__main__ import main
from mlickd.cli import COMMANDS
from mlickd.cli.command_line import CommandParser
from mlickd.config import default_config
from mlickd.config_files import find_config, merge_options
from mlickd.engine.run_config import load_config

ROOT = Path(__file__).parents[2]
PAGES = [page for folder in (".", "configs", "datasets", "docs", "projects/*") for page in ROOT.glob(f"{folder}/*.md")]
COMMAND = re.compile(r" {2,8}(?:\w+=\S+ )*(?:(?:srun|torchrun|find) .*)?(?:mlickd|python tools/|tools/)\b")
TOOL = re.compile(r"tools/(\w+)\.py|mlickd")
OTHERS = re.compile("gpu_check|install_detectron2")  # not commands of the package


def find_commands(text: str) -> list[str]:
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [line.strip() for line in lines if COMMAND.match(line) and not OTHERS.search(line)]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a function that parses a command line, checks its configuration, and returns its module."""
    parse_args, parsed = CommandParser.parse_args, []

    def parse_only(parser: CommandParser) -> None:
        parsed.append(parse_args(parser))
        raise EOFError

    def parse(line: str) -> str:
        words = [word for word in shlex.split(line, comments=True) if not word.startswith(("$", "..."))]
        if "torchrun" in words:
            words = shlex.split(re.sub(r'"\$[^"]*"', "1", line))
            torchrun = get_args_parser().parse_args(words[words.index("torchrun") + 1 :])
            assert torchrun.module == (torchrun.training_script == "mlickd"), line
            words = [torchrun.training_script, *torchrun.training_script_args]
        start = next(index for index, word in enumerate(words) if TOOL.fullmatch(word))
        name, *arguments = words[start:]
        module = TOOL.fullmatch(name)[1] or COMMANDS[arguments.pop(0)]
        monkeypatch.setattr("sys.argv", [f"mlickd {module}", *arguments])
        with pytest.raises(EOFError):
            importlib.import_module(f"mlickd.cli.{module}").main()
        args = vars(parsed.pop())
        file, options = str(args.get("config_file")), args.get("opts", [])
        if file.startswith("configs/"):
            load_config(file, options, args.get("kd_stage"))
        else:
            merge_options(default_config(), options)
        assert Path(find_config(args.get("configs", "."))).is_dir(), line
        return module

    monkeypatch.setattr(CommandParser, "parse_args", parse_only)
    return parse


def test_commands_are_accepted(parse: Callable, monkeypatch, capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert len({parse(line) for page in PAGES for line in find_commands(page.read_text(encoding="utf-8"))}) > 12
    lines = []
    for name in COMMANDS:
        monkeypatch.setattr("sys.argv", ["mlickd", name, "--help"])
        with pytest.raises(SystemExit):
            main()
        text = capsys.readouterr().out
        assert text.startswith(f"usage: mlickd {name} ") and "--debug" in text and "tools/" not in text
        lines += find_commands(text)
    assert {parse(line) for line in lines} == set(COMMANDS.values()), "each help has an example"
    assert sum("torchrun" in line for line in lines) >= 2
