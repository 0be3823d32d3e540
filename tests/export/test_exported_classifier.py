"""This project and the example in the documentation read exported files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlickd import load_model
from mlickd.errors import InputError
from mlickd.export import ExportMetadata, load_exported

PAGE = Path(__file__).parents[2] / "docs" / "using.md"
ORIGIN = {"thresholds_from": "TEST.THRESHOLD", "provenance": {"data": [{"name": "pets_train"}]}}
METADATA = ExportMetadata(("dog", "große Katze"), (0.5, 0.25), input_size=32, **ORIGIN)


def test_metadata_are_stored_as_text():
    properties = METADATA.properties()
    assert json.loads(properties["class_names"]) == ["dog", "große Katze"] and "große" in properties["class_names"]
    assert ExportMetadata.from_properties(properties, "file") == METADATA


@given(
    st.sampled_from(["format", "class_names", "thresholds"]),
    st.sampled_from([None, "", "null", '"x"', "-1", "1e999", "NaN", "[1", "[" * 100_000, '["dog", "dog"]', "[2, 3]"]),
)
def test_damaged_metadata_are_one_line(name: str, value: str | None):
    properties = METADATA.properties() | {name: value}
    properties = {key: text for key, text in properties.items() if text is not None}
    with pytest.raises(InputError, match="^pets.onnx: [^\n]*$"):
        ExportMetadata.from_properties(properties, "pets.onnx")


@pytest.mark.parametrize("kind", ["missing", "truncated", "checkpoint", "other ONNX"])
def test_other_files_are_refused_in_one_line(exported, tmp_path, kind):
    path = tmp_path / "changed.onnx"
    if kind == "other ONNX":
        model = onnx.load(exported.onnx)
        del model.metadata_props[:]
        onnx.save(model, path)
    elif kind != "missing":
        content = exported.onnx.read_bytes()[:3000]
        path.write_bytes(content if kind == "truncated" else (exported.run / "model_final.pth").read_bytes())
    with pytest.raises(InputError, match=f"^(model )?{path}: [^\n]*$"):
        load_exported(path)


@pytest.mark.parametrize(("hidden", "works"), [(["detectron2", "torch", "mlickd"], True), (["onnxruntime"], False)])
def test_the_example_of_the_documentation_needs_only_onnx_runtime(exported, tmp_path, hidden, works):
    (example,) = re.findall(r"^```python\n(import json\n.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "holiday.onnx").symlink_to(exported.onnx)
    (tmp_path / "photo.jpg").symlink_to(sorted((exported.root / "tiny" / "images").rglob("*.jpg"))[0])
    code = f"import sys\nsys.modules.update(dict.fromkeys({hidden!r}))\n{example}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode == 0) == works, done.stderr
    if works:
        found = load_model(exported.onnx).predict(tmp_path / "photo.jpg")
        printed = dict(line.split() for line in done.stdout.splitlines())
        assert 0 < len(printed) < 20 and printed.keys() == {*found.labels}
        # Pillow and the project decode with different rounding.
        assert all(float(score) == pytest.approx(found.scores[name], abs=2e-3) for name, score in printed.items())


@pytest.mark.parametrize(
    "code",
    [
        "from mlickd import load_model; print(load_model('student.onnx').predict('photo.jpg').scores)",
        "import mlickd.__main__ as m; sys.argv[1:] = ['predict', 'photo.jpg', '--model', 'student.onnx']; m.main()",
    ],
)
def test_predictions_of_an_exported_student_import_no_slow_libraries(exported, tmp_path, code):
    (tmp_path / "student.onnx").symlink_to(exported.onnx)
    (tmp_path / "photo.jpg").symlink_to(sorted((exported.root / "tiny" / "images").rglob("*.jpg"))[0])
    slow = "{'torch', 'detectron2', 'matplotlib', 'timm', 'torchvision', 'cv2', 'scipy', 'yaml'}"
    code = f"import sys; {code}; print({slow} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.endswith("\nset()\n"), done.stderr
