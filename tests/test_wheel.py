"""The wheel in an environment of its own, outside of the repository."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "configs", "projects/MLICKD/mlickd")
TINY = ["SOLVER.MAX_ITER", "4", "KD.FEATURE.MAX_ITER", "2", "KD.PREDICTION.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "4"]
TINY += ["SOLVER.WARMUP_ITERS", "1", "DATALOADER.NUM_WORKERS", "0"]
TINY += ["INPUT.SIZES_TRAIN", "(64,)", "INPUT.SIZE_TEST", "64"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_wheel_trains_predicts_and_exports_outside_of_the_repository(tiny_scenes: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, tmp_path / "source" / name)
    home, work, scripts = tmp_path / "home", tmp_path / "work", tmp_path / "venv" / "bin"
    home.mkdir()
    work.mkdir()
    venv.create(scripts.parent, symlinks=True)
    environment = {"HOME": str(home), "PATH": f"{scripts}:{os.defpath}", "DETECTRON2_DATASETS": str(tiny_scenes)}

    def run(*command: object) -> str:
        done = subprocess.run(
            list(map(str, command)), cwd=work, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", tmp_path, tmp_path / "source")
    (wheel,) = tmp_path.glob("*.whl")
    run(*pip, "--python", scripts / "python", "install", "--no-deps", "--no-index", wheel)
    # The dependencies that are there. Python does not read .pth files in this folder, such as an editable installation.
    packages = scripts.parent / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (packages / "outer.pth").write_text(sysconfig.get_path("purelib"))

    assert str(packages / "mlickd") in run("mlickd", "env")
    assert "Detectron2" in run("mlickd", "install-detectron2")
    run("mlickd", "quickstart", "--train", "tiny_train", "--test", "tiny_test", "--output", "out", *TINY)
    assert (work / "out/gallery/index.html").is_file()
    run("mlickd", "export", "--run", "out", "--output", "student.onnx")
    photo, scores = next((tiny_scenes / "tiny/images").glob("test_*")), []
    for model in ("out", "student.onnx"):
        (found,) = json.loads(run("mlickd", "predict", photo, "--model", model, "--json", "-"))["photos"]
        scores.append(list(found["scores"].values()))
    assert scores[0] == pytest.approx(scores[1], abs=0.01)
