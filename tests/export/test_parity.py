"""The comparison of an exported file with its model."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from helpers.untrained_run import write_untrained_run
from mlickd.data import dataset_records
from mlickd.data.records import label_targets
from mlickd.errors import InputError
from mlickd.evaluation.metrics import multilabel_metrics
from mlickd.export import ExportedClassifier, load_exported
from mlickd.export.parity import check_parity, parity_table, records_to_check
from mlickd.runs import load_run, predict


def test_the_file_of_the_model_passes_and_other_decisions_fail(exported, data_root):
    cfg, model = load_run(exported.run)
    records = dataset_records("tiny_train") + dataset_records("tiny_test")  # several batches
    file = load_exported(exported.onnx)
    reference, same, resized = check_parity(cfg, model, file, records)
    expected = predict(cfg, model, records)
    scores = np.stack([expected[record["image_id"]]["image_scores"].numpy() for record in records])
    np.testing.assert_allclose(reference.scores, scores, atol=1e-6)
    metrics = multilabel_metrics(scores, label_targets(records, 20), threshold=0.4)
    assert reference.metrics["CF1"] == pytest.approx(100 * metrics["CF1"])
    assert not same.problem and same.largest <= 1e-5
    assert not resized.problem and resized.largest == np.abs(resized.scores - scores).max()
    table = parity_table([reference, same, resized])
    assert "mAP" in table and "of 720" in table

    # Scores that are 5e-5 higher, and thresholds that only these reach on the first image.
    thresholds = tuple((scores[0] + 2e-5).tolist())
    metadata = dataclasses.replace(file.metadata, thresholds=thresholds)
    shifted = ExportedClassifier(file.path, metadata, lambda pixels: file.predict_scores(pixels) + np.float32(5e-5))
    _, same, _ = check_parity(cfg, model, shifted, records)
    assert same.largest < 1e-4 and same.decisions >= 20 and "decisions" in same.problem


def test_photos_without_labels_or_color_pass_the_check(exported, data_root, tmp_path):
    cfg, model = load_run(exported.run)
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "transparent.png")
    records = [*dataset_records("tiny_test"), {"image_id": "a", "file_name": str(tmp_path / "transparent.png")}]
    records = [{**record, "labels": [], "ignored_labels": [3]} for record in records]
    rows = check_parity(cfg, model, load_exported(exported.onnx), records)
    assert not any(row.problem for row in rows)
    assert "undefined" in parity_table(rows) and "nan" not in parity_table(rows), "there is no mAP"


def test_the_photos_to_check_come_from_datasets_or_files(exported, data_root, tmp_path):
    assert len(records_to_check(exported.run)) == 12
    assert len(records_to_check(exported.run, "tiny_val", num_images=5)) == 5
    run = write_untrained_run(tmp_path / "run")
    (run / "classes.txt").write_text("\n".join(f"class {number}" for number in range(20)))
    with pytest.raises(InputError, match="--dataset tiny_test"):
        records_to_check(run, "tiny_test")
