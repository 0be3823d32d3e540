import json
import shutil

import pytest
from detectron2.config import CfgNode

from helpers.untrained_run import write_untrained_run
from mlickd.errors import InputError
from mlickd.export import load_exported
from mlickd.export.exporting import export_student, run_metadata
from mlickd.runs import data_record, run_config
from mlickd.studies.tuning import tune_thresholds


@pytest.fixture
def run(exported, tmp_path, monkeypatch):
    """A run that may be changed."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(exported.root))
    return write_untrained_run(tmp_path / "run")


def configuration(run) -> CfgNode:
    return run_config(str(run))


def test_the_file_says_where_it_comes_from(exported, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(exported.root))
    provenance = load_exported(exported.onnx).metadata.provenance
    assert provenance["data"] == [data_record("tiny_fit")]
    assert {len(provenance[key]["sha256"]) for key in ("config", "checkpoint")} == {64}
    assert provenance["versions"]["mlickd"]
    assert load_exported(exported.pt2).metadata == load_exported(exported.onnx).metadata
    assert str(exported.run.parent) not in json.dumps(provenance)


def test_tuned_thresholds_go_along(run):
    assert run_metadata(configuration(run), str(run)).thresholds == (0.4,) * 20
    tuned = tune_thresholds(str(run), "tiny_val")
    metadata = run_metadata(configuration(run), str(run))
    assert metadata.thresholds == tuple(tuned.thresholds)
    assert "tiny_val (16 images" in metadata.thresholds_from


def test_thresholds_of_another_checkpoint_do_not(run):
    tune_thresholds(str(run), "tiny_val")
    (run / "model_final.pth").write_bytes((run / "model_final.pth").read_bytes() + b" ")
    with pytest.raises(InputError, match="was tuned for another checkpoint"):
        run_metadata(configuration(run), str(run))


def test_only_students_that_have_seen_labels_are_exported(run, tmp_path):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("STAGE: ''", "STAGE: feature"))
    with pytest.raises(InputError, match="is stage 1 of a distillation"):
        export_student(str(run), [tmp_path / "student.onnx"])
    with pytest.raises(InputError, match="give a name that ends in .onnx or .pt2"):
        export_student(str(run), [tmp_path / "student.onnx", tmp_path / "student.pth"])
    assert not list(tmp_path.glob("student*"))


def test_a_run_is_exported_where_its_data_set_is_not(exported, run, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(InputError, match="classes.txt: no such file, and its datasets"):
        run_metadata(configuration(run), str(run))
    shutil.copy(exported.root / "tiny" / "classes.txt", run)
    metadata = run_metadata(configuration(run), str(run))
    assert metadata.class_names == load_exported(exported.onnx).class_names
    assert metadata.provenance["data"] == [{"name": "tiny_fit"}]


def test_a_file_that_cannot_be_written_leaves_nothing(run, tmp_path):
    (tmp_path / "taken.pt2").mkdir()
    with pytest.raises(InputError, match="taken.pt2: cannot be written"):
        export_student(str(run), [tmp_path / "taken.pt2"])
    assert not list(tmp_path.glob(".*"))
