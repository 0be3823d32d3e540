"""Export of a student through the command line."""

import sys

import pytest
from PIL import Image

from helpers.untrained_run import split_tiny_scenes, write_untrained_run
from mlickd.export import load_exported

pytest.importorskip("onnxruntime")


@pytest.fixture
def folder(tiny_scenes, tmp_path, monkeypatch):
    """Write a finished run in the current folder."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(split_tiny_scenes(tiny_scenes, tmp_path / "datasets")))
    write_untrained_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_is_written_and_checked(folder, call_tool, monkeypatch):
    result = call_tool("export_student", "--run", "run", "--output", "out/student.onnx", "--check")
    assert result.status == 0, result.err
    assert "out/student.onnx: " in result.out and "20 classes, thresholds: 0.4 for all classes" in result.out
    assert "ONNX, same pixels" in result.out and result.out.endswith("12 photos\n")

    other = load_exported("out/student.onnx")
    write_untrained_run(folder / "other", seed=1)
    (folder / "photos").mkdir()
    Image.new("RGB", (50, 40), "green").save("photos/photo.png")
    (folder / "photos/phone.heic").touch()
    monkeypatch.setattr("mlickd.cli.export_student.load_exported", lambda path: other)
    options = ["--check", "--photos", "photos"]
    result = call_tool("export_student", "--run", "other", "--output", "other.onnx", *options)
    assert result.status == 1
    assert "\nerror: " in result.err and "1 of 2 photos" in result.err and "mAP" not in result.out

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = call_tool("export_student", "--run", "run", "--output", "a.onnx", "--check")
    result.assert_ends_in_one_line("onnxruntime")
    assert not (folder / "a.onnx").exists(), "errors are found before the file is written"
