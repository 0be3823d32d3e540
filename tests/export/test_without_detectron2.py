"""The example of the README, as it stands there, in a Python that has neither this project nor what it needs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlickd.export import load_exported, read_photo

README = Path(__file__).parents[2] / "README.md"
WITHOUT = "import sys\nsys.modules.update(dict.fromkeys({names!r}))\n"


def example(package: str) -> str:
    """The only block of Python that imports a package."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if f"import {package}\n" in block)
    return block


def run_python(code, folder):
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(exported, tmp_path):
    shutil.copy(exported.onnx, tmp_path / "holiday.onnx")
    shutil.copy(exported.pt2, tmp_path / "holiday.pt2")
    photo = sorted((exported.root / "tiny" / "images").rglob("*.jpg"))[0]
    shutil.copy(photo, tmp_path / "photo.jpg")
    return tmp_path


def test_the_example_classifies_a_photo(folder):
    done = run_python(WITHOUT.format(names=["detectron2", "torch", "mlickd"]) + example("onnxruntime"), folder)
    assert done.returncode == 0, done.stderr
    classifier = load_exported(folder / "holiday.onnx")
    (scores,) = classifier.scores_of_views(read_photo(folder / "photo.jpg", 32)[None])
    chosen = scores >= classifier.thresholds
    assert chosen.any() and not chosen.all()
    expected = [f"{classifier.class_names[i]} {scores[i]:.3f}" for i in np.flatnonzero(chosen)]
    assert done.stdout.splitlines() == expected


def test_pytorch_alone_gives_the_names_and_scores_of_a_photo(folder):
    np.save(folder / "pixels.npy", read_photo(folder / "photo.jpg", 32))
    before = "import json\nimport numpy as np\npixels = np.load('pixels.npy')\n"
    code = WITHOUT.format(names=["detectron2", "onnxruntime", "mlickd"]) + before + example("torch")
    done = run_python(f"{code}print(json.dumps([names, scores]))", folder)
    assert done.returncode == 0, done.stderr
    names, scores = json.loads(done.stdout)
    classifier = load_exported(folder / "holiday.pt2")
    assert names == list(classifier.class_names)
    np.testing.assert_allclose(scores, classifier.scores_of_views(np.load(folder / "pixels.npy")[None])[0], atol=1e-6)


def test_without_the_packages_the_test_would_fail(folder):
    done = run_python(WITHOUT.format(names=["onnxruntime"]) + example("onnxruntime"), folder)
    assert done.returncode == 1 and "onnxruntime" in done.stderr
