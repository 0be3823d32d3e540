"""Bad input ends a command with one line, exit status 2 and no traceback, and leaves nothing half-written."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from helpers.ground import write_ground
from hostile.bad_input import CASES, Damage
from mlickd.__main__ import main


@pytest.fixture(scope="module")
def ground(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        return write_ground(tmp_path_factory.mktemp("ground"), tiny_scenes, patch)


@pytest.mark.parametrize(("command", "names", "damage"), CASES)
def test_bad_input(
    command: str,
    names: str,
    damage: Damage | None,
    ground: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "onnx" in command:
        pytest.importorskip("onnxruntime")
    folder = tmp_path / "ground"
    shutil.copytree(ground, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(folder / "datasets"))
    monkeypatch.setenv("MLICKD_DEBUG", "")
    if damage is not None:
        damage()
    before = listing(folder)
    monkeypatch.setattr("sys.argv", ["mlickd", *shlex.split(command)])
    with pytest.raises(SystemExit) as end:
        main()
    errors = capsys.readouterr().err
    assert end.value.code == 2, errors
    message = errors.splitlines()[-1]
    assert message.startswith("error: ") and names in message, errors
    assert "Traceback" not in errors and errors.count("error: ") == message.count("error: ")
    assert listing(folder) == before, "something is left or changed, or code in a file was run"


def listing(folder: Path) -> dict[Path, tuple[int, int] | bool]:
    """Return all paths in a folder, with size and modification time of the files."""
    return {
        path: path.is_file() and (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))
    }
