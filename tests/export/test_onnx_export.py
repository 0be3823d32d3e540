"""Exported networks agree with their models, and their metadata have the origin of the model."""

import json

import numpy as np
import onnx
import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY, build_model

from helpers.small_models import CONFIGS
from helpers.untrained_run import write_untrained_run
from mlickd.config import default_config
from mlickd.errors import InputError
from mlickd.export import ExportMetadata, load_exported
from mlickd.export.onnx_export import export_student, onnx_content, run_metadata
from mlickd.modeling import MultiLabelClassifier
from mlickd.prediction import load_model
from mlickd.runs import run_config, training_data
from mlickd.studies.threshold_tuning import tune_thresholds

# Each backbone that the configurations use, as narrow as possible.
VGG = ["MODEL.VGG.DEPTH", 11, "MODEL.VGG.WIDTH", 0.05]
BACKBONES = {
    "vgg": ["Base-Classifier", *VGG],
    "vgg_fc": ["Base-Classifier", *VGG, "MODEL.CLASSIFIER.POOLING", "fc"],
    "resnet": ["Base-ResNet50", "MODEL.RESNETS.RES2_OUT_CHANNELS", 16, "MODEL.RESNETS.STEM_OUT_CHANNELS", 8],
    "lite": ["Base-EfficientNetLite0"],
}


@pytest.mark.parametrize(
    ("backbone", "image_format", "divisor"),
    [
        ("vgg", "BGR", 32),
        ("vgg_fc", "RGB", 0),
        pytest.param("resnet", "RGB", 0, marks=pytest.mark.slow),
        pytest.param("lite", "RGB", 0, marks=pytest.mark.slow),
    ],
)
def test_scores_agree_with_the_model(backbone, image_format, divisor, tmp_path, monkeypatch):
    base, *options = BACKBONES[backbone]
    cfg = default_config()
    for name in dict.fromkeys(["Base-Classifier", base]):
        cfg.merge_from_file(str(CONFIGS / f"{name}.yaml"))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.NUM_CLASSES", 3, "MODEL.CLASSIFIER.FC_DIM", 8])
    cfg.merge_from_list(["MODEL.RESNETS.WIDTH_PER_GROUP", 4, *options])
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    torch.nn.init.normal_(model.head.linear.weight, std=0.5)  # so that scores differ between images
    if divisor:  # 40 pixels are padded
        monkeypatch.setattr(type(model.backbone), "size_divisibility", divisor)
    metadata = ExportMetadata(("a", "b", "c"), (0.5,) * 3, "", 40)
    (tmp_path / "student.onnx").write_bytes(onnx_content(model, metadata, image_format))
    classifier = load_exported(tmp_path / "student.onnx")
    views = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
    channels = views if image_format == "RGB" else views[..., ::-1].copy()
    with torch.no_grad():
        outputs = model([{"image": torch.from_numpy(view).permute(2, 0, 1)} for view in channels])
    expected = np.stack([output["image_scores"].numpy() for output in outputs])
    assert np.ptp(expected, axis=0).max() > 1e-3
    for count in (1, 2, 5):
        np.testing.assert_allclose(classifier.predict_scores(views[:count]), expected[:count], atol=1e-5)


@META_ARCH_REGISTRY.register()
class ScaledClassifier(MultiLabelClassifier):
    """A classifier whose scores are not those of its parts."""

    def forward(self, batched_inputs):
        return [{"image_scores": output["image_scores"] / 2} for output in super().forward(batched_inputs)]


def test_a_model_with_another_forward_has_no_file_and_no_maps(data_root, tmp_path):
    run = write_untrained_run(tmp_path / "run", 0, "Base-Classifier", "MODEL.META_ARCHITECTURE", "ScaledClassifier")
    with pytest.raises(InputError, match="ScaledClassifier"):
        export_student(run, tmp_path / "student.onnx")
    model, photo = load_model(run), np.zeros((32, 32, 3), np.uint8)
    assert model.predict(photo).values.max() <= 0.5
    with pytest.raises(InputError, match="ScaledClassifier"):
        model.activation_maps(photo)


def test_the_file_is_plain_onnx_without_paths_of_this_machine(exported):
    content = exported.onnx.read_bytes()
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    # ONNX Runtime 1.15 reads opset 18, and versions of the format above 8 only later.
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 18)] and model.ir_version == 8
    assert not model.functions and all(node.domain == "" for node in model.graph.node)
    for secret in (b"site-packages", b"mlickd/export", bytes(exported.run.parent)):
        assert secret not in content


def test_metadata_has_provenance_and_tuned_thresholds(exported, data_root, tmp_path, monkeypatch):
    provenance = load_exported(exported.onnx).metadata.provenance
    assert provenance["data"] == training_data(exported.run)
    assert {len(provenance[key]["sha256"]) for key in ("config", "checkpoint")} == {64}
    assert provenance["versions"]["mlickd"] and str(exported.run.parent) not in json.dumps(provenance)

    run = write_untrained_run(tmp_path / "run")
    cfg = run_config(run)
    assert run_metadata(cfg, run).thresholds == (0.4,) * 20
    tuned = tune_thresholds(run, "tiny_val")
    metadata = run_metadata(cfg, run)
    assert metadata.thresholds == tuple(tuned.thresholds) and "best F1" in metadata.thresholds_from

    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(InputError, match="classes.txt"):
        run_metadata(cfg, run)
    (run / "classes.txt").write_text("\n".join(metadata.class_names))
    found = run_metadata(cfg, run)
    assert found.class_names == metadata.class_names
    assert found.provenance["data"] == metadata.provenance["data"], "it does not depend on the present datasets"
    (run / "training_data.json").unlink()
    with pytest.raises(InputError, match="training_data.json"):
        run_metadata(cfg, run)
