"""This project and the example in the documentation read exported files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlickd import load_model
from mlickd.data import MultiLabelMapper, View
from mlickd.errors import InputError
from mlickd.export import ExportMetadata, load_exported, read_photo
from mlickd.runs import load_run

PAGE = Path(__file__).parents[2] / "docs" / "using.md"
PIXELS = {"pixel_mean": (120.0, 110.0, 100.0), "pixel_std": (60.0, 50.0, 40.0), "channel_order": "RGB"}
ORIGIN = {"thresholds_from": "TEST.THRESHOLD", "provenance": {"data": [{"name": "pets_train"}]}}
METADATA = ExportMetadata(("dog", "große Katze"), (0.5, 0.25), input_size=32, preprocessing=True, **PIXELS, **ORIGIN)


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


def test_scores_agree_with_the_student(exported):
    generator = np.random.default_rng(1)
    sizes = [(32, 32), (41, 57), (64, 20), (32, 90), (100, 33)]
    photos = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    views = [np.array(Image.fromarray(photo).resize((32, 32), Image.Resampling.BILINEAR)) for photo in photos]
    student = load_run(exported.run)[1].cpu()
    with torch.no_grad():
        outputs = student([{"image": torch.from_numpy(view).permute(2, 0, 1)} for view in views])
    expected = np.stack([output["image_scores"].numpy() for output in outputs])
    assert np.ptp(expected, axis=0).max() > 0.01, "the photos have to differ"
    classifier, model = load_exported(exported.onnx), load_model(exported.onnx)
    for batch_size in (1, 2, 16):
        found = np.stack([prediction.values for prediction in model.predict(photos, batch_size)])
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert model.predict([]) == []
    assert classifier.class_names == tuple((exported.root / "tiny" / "classes.txt").read_text().split("\n")[:20])
    assert classifier.thresholds.tolist() == [np.float32(0.4)] * 20
    for image in (np.zeros((32, 32), np.uint8), np.zeros((32, 32, 3), np.float32), np.zeros((0, 3, 3), np.uint8)):
        with pytest.raises(InputError, match="image 2"):
            model.predict([photos[0], image])


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
    with pytest.raises(InputError, match=f"^{path}: [^\n]*$"):
        load_exported(path)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(64, 48), (640, 480), (517, 389)], ids=str)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pillow_decodes_nearly_the_same_pixels_as_an_evaluation(tmp_path, size, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{suffix}"
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path, exif=exif, quality=90)
    ours = MultiLabelMapper()({"file_name": str(path), "image_id": 0}, View(48))["image"].numpy().transpose(1, 2, 0)
    read = read_photo(path, 48)
    assert read.shape == (48, 48, 3) and read.dtype == np.uint8
    difference = np.abs(read.astype(int) - ours)
    # An evaluation decodes turned photos at another size if their sides are not multiples of 8.
    turned = orientation != 1 and any(side % 8 for side in size)
    assert difference.mean() < (3 if turned else 0.5) and difference.max() <= (20 if turned else 2)


@pytest.mark.parametrize(("hidden", "works"), [(["detectron2", "torch", "mlickd"], True), (["onnxruntime"], False)])
def test_the_example_of_the_documentation_needs_only_onnx_runtime(exported, tmp_path, hidden, works):
    (example,) = re.findall(r"^```python\n(import json\n.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "holiday.onnx").symlink_to(exported.onnx)
    (tmp_path / "photo.jpg").symlink_to(sorted((exported.root / "tiny" / "images").rglob("*.jpg"))[0])
    code = f"import sys\nsys.modules.update(dict.fromkeys({hidden!r}))\n{example}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode == 0) == works, done.stderr
    if works:
        classifier = load_exported(exported.onnx)
        (scores,) = classifier.scores_of_views(read_photo(tmp_path / "photo.jpg", 32)[None])
        chosen = np.flatnonzero(scores >= classifier.thresholds)
        assert 0 < len(chosen) < 20
        assert done.stdout.splitlines() == [f"{classifier.class_names[i]} {scores[i]:.3f}" for i in chosen]


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
