"""The command `mlickd`, as a user calls it."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import mlickd
from mlickd.cli import COMMANDS

ROOT = Path(__file__).parents[1]
MODULE = [sys.executable, "-m", "mlickd"]
# What the console script that pip installs does.
SCRIPT = [sys.executable, "-c", "import sys; sys.argv[0] = '/bin/mlickd'; from mlickd.__main__ import main; main()"]
# All that a script in tools/ does.
SCRIPT_OF_A_COMMAND = """
from mlickd.cli.{name} import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
"""
# Which of the slow libraries were imported is told at the end.
SLOW = "{'torch', 'detectron2', 'cv2', 'numpy'}"
TELL = f"import atexit, sys; atexit.register(lambda: print({SLOW} & set(sys.modules))); "


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=280)


@pytest.mark.parametrize("how", [MODULE, SCRIPT])
def test_the_list_names_every_command_in_one_line(how: list[str]) -> None:
    listed = run(*how)
    assert listed.returncode == 0 and listed.stdout == run(*how, "--help").stdout
    for name, command in COMMANDS.items():
        (line,) = [line for line in listed.stdout.splitlines() if line.split()[:1] == [name]]
        assert line.endswith(command.summary) and len(line) <= 80


@pytest.mark.parametrize("arguments", ["[]", "['--version']", "['predikt']"])
def test_the_list_imports_nothing_slow(arguments: str) -> None:
    start = f"sys.argv = ['/bin/mlickd', *{arguments}]; from mlickd.__main__ import main; main()"
    assert run(sys.executable, "-c", TELL + start).stdout.splitlines()[-1] == "set()"


def test_importing_the_package_registers_its_models() -> None:
    code = (
        "from detectron2.modeling import META_ARCH_REGISTRY as R; import mlickd; print(mlickd.default_config, *dict(R))"
    )
    (line,) = run(sys.executable, "-c", code).stdout.splitlines()
    assert {"MultiLabelClassifier", "DistilledClassifier", "WeaklySupervisedDetector"} <= set(line.split())


def test_a_command_shows_its_own_name_in_help_and_errors() -> None:
    shown = run(*MODULE, "dataset-manifest", "--help")
    assert shown.returncode == 0 and shown.stdout.startswith("usage: mlickd dataset-manifest ")
    assert "\n  mlickd dataset-manifest nus_wide_test_multilabel --output" in shown.stdout
    assert "tools/" not in shown.stdout
    refused = run(*SCRIPT, "dataset-manifest", "none", "--check", "no.manifest")
    assert refused.returncode == 2 and "`mlickd dataset-manifest NAME`" in refused.stderr.splitlines()[-1]


def test_what_is_no_command_is_one_line_with_the_nearest() -> None:
    for name, remedy in (("trian", "did you mean train?"), ("zzz", "give one of those that `mlickd` alone lists")):
        refused = run(*MODULE, name)
        assert refused.returncode == 2 and refused.stderr == f"error: {name} is no command of mlickd; {remedy}\n"


def test_every_tool_is_a_command_and_says_no_more() -> None:
    scripts = {path.stem for path in (ROOT / "tools").glob("*.py")} - {"install_detectron2"}  # runs before the package
    modules = {command.module for command in COMMANDS.values()}
    assert scripts == modules and len(modules) == len(COMMANDS)
    for name in scripts:
        docstring, *code = ast.parse((ROOT / f"tools/{name}.py").read_text()).body
        assert isinstance(docstring.value, ast.Constant), name
        assert ast.dump(ast.Module(code, [])) == ast.dump(ast.parse(SCRIPT_OF_A_COMMAND.format(name=name))), name


def test_the_installed_command_is_this_one() -> None:
    found = importlib.metadata.entry_points(group="console_scripts", name="mlickd")
    if not found:
        pytest.skip("the package is on the path, and not installed")
    (entry,) = found
    assert entry.load() is __import__("mlickd.__main__", fromlist=["main"]).main


def test_the_version_is_that_of_the_package() -> None:
    assert run(*MODULE, "--version").stdout == f"mlickd {mlickd.__version__}\n"


def test_every_command_can_show_where_an_error_was_found() -> None:
    for module in (command.module for command in COMMANDS.values()):
        code = (ROOT / f"projects/MLICKD/mlickd/cli/{module}.py").read_text()
        if module == "benchmark":
            code = (ROOT / "projects/MLICKD/benchmarks/command.py").read_text()
        assert "= command_parser(" in code and "ArgumentParser(" not in code, module
    shown = run(*MODULE, "train", "--help")
    assert "--debug" in shown.stdout and "--kd-stage" in shown.stdout and "--config-file" in shown.stdout
    refused = run(*MODULE, "train", "--config-file", "none.yaml", "MODEL.WEIGHTS", "x", "--debug")
    assert refused.returncode == 2 and "Traceback" in refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("error: --config-file none.yaml: no such file")
