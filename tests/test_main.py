"""The command `mlickd`, as a user calls it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mlickd
from mlickd.__main__ import main
from mlickd.cli import COMMANDS

ROOT = Path(__file__).parents[1]
# All code of a script in tools/.
SCRIPT = """
from mlickd.cli.{name} import main
from mlickd.errors import run_tool

if __name__ == "__main__":
    run_tool(main)
"""
# The console script that pip installs, which here also prints the slow libraries that it imported.
INSTALLED = """
import atexit, sys
atexit.register(lambda: print({'torch', 'detectron2', 'cv2', 'numpy'} & set(sys.modules)))
sys.argv[0] = '/bin/mlickd'
from mlickd.__main__ import main
main()
"""


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=280)


def test_the_list_of_commands_does_not_import_slow_libraries() -> None:
    listed = run("-m", "mlickd").stdout
    assert run("-c", INSTALLED).stdout == f"{listed}set()\n"
    for name in COMMANDS:
        (line,) = [line for line in listed.splitlines() if line.split()[:1] == [name]]
        assert len(line) <= 80


def test_importing_the_package_registers_its_models() -> None:
    code = (
        "from detectron2.modeling import META_ARCH_REGISTRY as R; import mlickd; print(mlickd.default_config, *dict(R))"
    )
    (line,) = run("-c", code).stdout.splitlines()
    assert {"MultiLabelClassifier", "DistilledClassifier", "WeaklySupervisedDetector"} <= set(line.split())


def test_every_tool_only_runs_its_command() -> None:
    # The others are not in the package.
    scripts = {path.stem for path in (ROOT / "tools").glob("*.py")} - {"install_detectron2", "gpu_check"}
    assert scripts == set(COMMANDS.values()) and len(scripts) == len(COMMANDS)
    for name in scripts:
        docstring, *code = ast.parse((ROOT / f"tools/{name}.py").read_text()).body
        assert isinstance(docstring.value, ast.Constant), name
        assert ast.dump(ast.Module(code, [])) == ast.dump(ast.parse(SCRIPT.format(name=name))), name


def test_the_version_of_the_package(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["mlickd", "--version"])
    main()
    assert capsys.readouterr().out == f"mlickd {mlickd.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["trian"], "did you mean train?"),
        (["zzz"], "`mlickd`"),
        (["dataset-manifest", "none", "--check", "no.manifest"], "`mlickd dataset-manifest NAME`"),
        (["train", "--config-file", "none.yaml", "MODEL.WEIGHTS", "x", "--debug"], "--config-file none.yaml"),
    ],
)
def test_errors_are_one_line(arguments: list, names: str, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLICKD_DEBUG", "")
    monkeypatch.setattr("sys.argv", ["mlickd", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    *above, last = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and last.startswith("error: ") and names in last
    assert ("Traceback (most recent call last):" in above) == ("--debug" in arguments)
