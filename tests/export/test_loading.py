import io
import json
import shutil
import zipfile

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from mlickd.errors import InputError
from mlickd.export import load_exported


def expected_scores(student, photos):
    """The student's own, of the photos as Pillow warps them."""
    views = [np.array(Image.fromarray(photo).resize((32, 32), Image.Resampling.BILINEAR)) for photo in photos]
    batch = [{"image": torch.from_numpy(view).permute(2, 0, 1)} for view in views]
    with torch.no_grad():
        return np.stack([output["image_scores"].numpy() for output in student(batch)])


def message_of(path) -> str:
    """What the user reads: one line that names the file."""
    with pytest.raises(InputError) as caught:
        load_exported(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def changed_onnx(exported, path, change):
    model = onnx.load(exported.onnx)
    properties = {item.key: item.value for item in model.metadata_props}
    change(properties)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, path)
    return path


def changed_pt2(exported, path, change):
    """`change` may alter the entries, a dict of bytes by name."""
    with zipfile.ZipFile(exported.pt2) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(entries)).partition("/")[0]
    entries = {name.removeprefix(f"{root}/"): content for name, content in entries.items()}
    change(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"{root}/{name}", content)
    return path


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_scores_are_those_of_the_student(exported, student, photos, suffix):
    classifier = load_exported(getattr(exported, suffix))
    expected = expected_scores(student, photos)
    assert np.ptp(expected, axis=0).max() > 0.01  # else any scores would do
    for batch_size in (1, 2, 16):
        scores = classifier.scores(photos, batch_size)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert classifier.scores([]).shape == (0, 20)
    assert classifier.class_names == tuple((exported.root / "tiny" / "classes.txt").read_text().split("\n")[:20])
    assert classifier.thresholds.tolist() == [np.float32(0.4)] * 20
    assert classifier.thresholds.dtype == np.float32


@pytest.mark.parametrize(
    "image", [np.zeros((32, 32), np.uint8), np.zeros((32, 32, 3), np.float32), np.zeros((0, 3, 3), np.uint8), "photo"]
)
def test_images_must_be_pixels(exported, image):
    with pytest.raises(InputError, match="image 1 of 2: .* give arrays"):
        load_exported(exported.onnx).scores([np.zeros((32, 32, 3), np.uint8), image])


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
@hypothesis_settings(max_examples=15)
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_short_is_refused(exported, tmp_path_factory, suffix, part):
    content = getattr(exported, suffix).read_bytes()
    path = tmp_path_factory.mktemp("cut") / f"cut.{suffix}"
    path.write_bytes(content[: int(part * len(content))])
    message_of(path)


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_foreign_files_are_refused(exported, tmp_path, suffix):
    path = tmp_path / f"foreign.{suffix}"
    assert "no such file" in message_of(path)
    for content in (b"", b"no model", exported.onnx.read_bytes() if suffix == "pt2" else exported.pt2.read_bytes()):
        path.write_bytes(content)
        message_of(path)
    shutil.copy(exported.run / "model_final.pth", path)
    message_of(path)
    assert "ends in .onnx or .pt2" in message_of(tmp_path / "model_final.pth")


@pytest.mark.parametrize("name", ["format", "class_names", "thresholds", "input_size", "preprocessing", "pixel_mean"])
def test_missing_metadata_are_named(exported, tmp_path, name):
    path = changed_onnx(exported, tmp_path / "changed.onnx", lambda properties: properties.pop(name))
    assert "export_student" in message_of(path)


@pytest.mark.parametrize(
    "key, value", [("input_size", "64"), ("preprocessing", "false"), ("thresholds", "[0.5]")], ids=str
)
@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_metadata_must_be_of_the_graph(exported, tmp_path, suffix, key, value):
    path = tmp_path / f"lying.{suffix}"
    if suffix == "onnx":
        changed_onnx(exported, path, lambda properties: properties.update({key: value}))
    else:
        changed_pt2(exported, path, lambda entries: lie(entries, {key: value}))
    message_of(path)


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_the_number_of_classes_must_be_that_of_the_graph(exported, tmp_path, suffix):
    path = tmp_path / f"lying.{suffix}"
    fewer = {"class_names": '["a", "b"]', "thresholds": "[0.5, 0.5]"}
    if suffix == "onnx":
        changed_onnx(exported, path, lambda properties: properties.update(fewer))
    else:
        changed_pt2(exported, path, lambda entries: lie(entries, fewer))
    assert "metadata says" in message_of(path)


def lie(entries, properties):
    entries["extra/mlickd.json"] = json.dumps(json.loads(entries["extra/mlickd.json"]) | properties).encode()


def with_graph(entries, change):
    graph = json.loads(entries["models/model.json"])
    change(graph)
    entries["models/model.json"] = json.dumps(graph).encode()


def pickled_weights(entries):
    name = "data/weights/model_weights_config.json"
    config = json.loads(entries[name])
    next(iter(config["config"].values()))["use_pickle"] = True
    entries[name] = json.dumps(config).encode()


def sample_inputs(entries):
    file = io.BytesIO()
    torch.save(torch.zeros(1), file)
    entries["data/sample_inputs/model.pt"] = file.getvalue()


def library(entries):
    entries["data/aotinductor/model/model.so"] = b"\x7fELF"


def guard(entries):
    with_graph(entries, lambda graph: graph.update(guards_code=["__import__('os').mkdir('owned')"]))


def expression(entries):
    code = entries["models/model.json"].decode()
    entries["models/model.json"] = code.replace("Symbol(", "__import__('os').mkdir('owned') or Symbol(").encode()


def constraint(entries):
    with_graph(entries, lambda graph: graph.update(range_constraints={"__import__('os').mkdir('owned')": {}}))


def operator(entries):
    nodes = "nodes"
    with_graph(entries, lambda graph: graph["graph_module"]["graph"][nodes][0].update(target="torch.hub.load"))


def file_operator(entries):
    target = "torch.ops.aten.from_file.default"
    with_graph(entries, lambda graph: graph["graph_module"]["graph"]["nodes"][0].update(target=target))


@pytest.mark.parametrize(
    "change", [pickled_weights, sample_inputs, library, guard, expression, constraint, operator, file_operator]
)
def test_a_pt2_with_anything_that_would_run_when_read_is_refused(exported, tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    path = changed_pt2(exported, tmp_path / "changed.pt2", change)
    assert "has no need of" in message_of(path)
    assert not (tmp_path / "owned").exists()


def test_an_archive_that_is_only_packed_again_is_read(exported, tmp_path, photos):
    path = changed_pt2(exported, tmp_path / "same.pt2", lambda entries: None)
    np.testing.assert_array_equal(load_exported(path).scores(photos), load_exported(exported.pt2).scores(photos))
