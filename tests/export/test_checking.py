import dataclasses

import numpy as np
import pytest

from helpers.untrained_run import write_untrained_run
from mlickd.data import dataset_records
from mlickd.data.records import label_targets
from mlickd.errors import InputError
from mlickd.evaluation.metrics import multilabel_metrics
from mlickd.export import ExportedClassifier, load_exported
from mlickd.export.checking import check_exported, check_records, checks_table
from mlickd.runs import load_run, predict


@pytest.fixture(autouse=True)
def data_sets(exported, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(exported.root))


def test_files_of_the_model_pass(exported):
    cfg, model = load_run(str(exported.run))
    records = dataset_records("tiny_train") + dataset_records("tiny_test")  # 36: more than one round of batches
    files = [load_exported(exported.onnx), load_exported(exported.pt2)]
    reference, *checks = check_exported(cfg, model, files, records)
    expected = predict(cfg, model, records)
    scores = np.stack([expected[record["image_id"]]["image_scores"].numpy() for record in records])
    np.testing.assert_allclose(reference.scores, scores, atol=1e-6)
    metrics = multilabel_metrics(scores, label_targets(records, 20), threshold=0.4)
    assert reference.metrics["CF1"] == pytest.approx(100 * metrics["CF1"])
    assert len(checks) == 4 and not any(check.complaint for check in checks)
    same, pillow = checks[:2]
    assert same.largest <= 1e-5 and same.metrics == pytest.approx(reference.metrics, abs=0.01)
    assert pillow.largest == np.abs(pillow.scores - reference.scores).max()
    table = checks_table([reference, *checks])
    assert "mAP" in table and "of 720" in table


def test_a_file_of_another_model_fails(exported, tmp_path):
    cfg, model = load_run(str(write_untrained_run(tmp_path / "other", seed=1)))
    records = [{key: value for key, value in r.items() if key != "labels"} for r in dataset_records("tiny_test")]
    reference, same, pillow = check_exported(cfg, model, [load_exported(exported.onnx)], records)
    assert f"{exported.onnx}: its scores differ by up to" in same.complaint
    assert "read by Pillow alone differ by" in pillow.complaint
    assert same.decisions == ((same.scores >= 0.4) != (reference.scores >= 0.4)).sum()
    assert reference.metrics is None and "mAP" not in checks_table([reference, same, pillow])


def thresholds_between(file, scores, chosen):
    """The file with scores 5e-5 higher, and thresholds that only these reach on the chosen images."""
    thresholds = scores[chosen, np.arange(scores.shape[1])] + 2e-5
    metadata = dataclasses.replace(file.metadata, thresholds=tuple(map(float, thresholds)))
    return ExportedClassifier(file.path, metadata, lambda pixels: file.scores_of_views(pixels) + np.float32(5e-5))


def test_decisions_and_metrics_are_judged_where_scores_are_near(exported):
    cfg, model = load_run(str(exported.run))
    records = dataset_records("tiny_train") + dataset_records("tiny_test")
    file = load_exported(exported.onnx)
    reference = check_exported(cfg, model, [file], records)[0].scores
    best = np.where(label_targets(records, 20) > 0, reference, -1).argmax(0)  # of its class; the first where none is
    changed = thresholds_between(file, reference, best)
    of_pytorch, same, _ = check_exported(cfg, model, [changed], records)
    assert same.largest < 1e-4 and same.metrics["mAP"] == pytest.approx(of_pytorch.metrics["mAP"], abs=0.01)
    assert same.complaint.startswith(f"{exported.onnx}: its CF1 of {same.metrics['CF1']:.2f} is not PyTorch's ")
    assert same.complaint.endswith("(the tolerance is 2.8 points), on the same pixels")

    without = [{key: value for key, value in record.items() if key != "labels"} for record in records]
    _, same, _ = check_exported(cfg, model, [changed], without)
    assert same.decisions >= 20
    assert f"{same.decisions} of 720 decisions are others than PyTorch's, on the same pixels" in same.complaint


def test_the_photos_are_those_asked_for(exported):
    names = load_exported(exported.onnx).class_names
    assert len(check_records(names, "tiny_test")) == 12
    assert len(check_records(names, "tiny_val", num_images=5)) == 5
    assert len(check_records(names, "tiny_test", [str(exported.root / "tiny" / "images")])) == 36
    with pytest.raises(InputError, match="unknown dataset"):
        check_records(names, "nothing_test")
    with pytest.raises(InputError, match="has other classes than the run"):
        check_records(names[:3], "tiny_test")
