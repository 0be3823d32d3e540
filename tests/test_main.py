"""The command `mlickd`, as a user calls it."""

import os
import subprocess
import sys
from pathlib import Path

import detectron2
import pytest
import torch

from mlickd.__main__ import main
from mlickd.cli import COMMANDS

ROOT = Path(__file__).parents[1]
# The console script that pip installs, which here also prints the slow libraries that it imported.
INSTALLED = """
import atexit, sys
atexit.register(lambda: print({'torch', 'detectron2', 'cv2', 'numpy'} & set(sys.modules)))
sys.argv[0] = '/bin/mlickd'
from mlickd.__main__ import main
main()
"""
# An environment without Detectron2.
MISSING = """
import sys
class Missing:
    def find_spec(name, *_):
        if name == 'detectron2':
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Missing)
sys.argv = ['mlickd', 'train']
"""


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=280)


def test_the_list_of_commands_does_not_import_slow_libraries() -> None:
    listed = run("-m", "mlickd").stdout
    assert run("-c", INSTALLED).stdout == f"{listed}set()\n"
    assert COMMANDS.keys() <= {line.split()[0] for line in listed.splitlines() if line.strip()}


def test_importing_the_package_registers_its_models() -> None:
    code = (
        "from detectron2.modeling import META_ARCH_REGISTRY as R; import mlickd; print(mlickd.default_config, *dict(R))"
    )
    (line,) = run("-c", code).stdout.splitlines()
    assert {"MultiLabelClassifier", "DistilledClassifier", "WeaklySupervisedDetector"} <= set(line.split())


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["trian"], "did you mean train?"),
        (["zzz"], "`mlickd`"),
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


def test_environment_shows_versions_and_folders(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["mlickd", "env"])
    monkeypatch.setenv("DETECTRON2_DATASETS", "/nowhere")
    main()
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert torch.__version__ in rows["PyTorch"] and "opencv" in rows["OpenCV"]
    assert str(Path(detectron2.__file__).parent) in rows["Detectron2"] and str(ROOT) in rows["mlickd"]
    assert "/nowhere" in rows["data"]


def test_a_damaged_environment_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL/__init__.py").write_text("raise ImportError('no libjpeg')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    done = run("-m", "mlickd", "env")
    assert done.returncode == 0, done.stderr
    assert "broken        PIL: ImportError('no libjpeg')" in done.stdout and torch.__version__ in done.stdout


@pytest.mark.parametrize("script", ["import mlickd.__main__ as m; m.main()", "import runpy; runpy.run_path(FILE)"])
def test_a_missing_detectron2_is_one_line(script: str) -> None:
    file = str(ROOT / "tools" / "evaluate.py")
    done = run("-c", MISSING + script.replace("FILE", f"{file!r}, run_name='__main__'"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "`mlickd install-detectron2`" in done.stderr
