import zipfile

import numpy as np
import onnx
import pytest
import torch
from detectron2.modeling import build_model

from helpers.small_models import CONFIGS
from mlickd.config import default_config
from mlickd.errors import InputError
from mlickd.export import ExportMetadata, load_exported
from mlickd.export.graph import OPSET, onnx_content, pt2_content, trace

# Each backbone that the configurations use, as narrow as it can be, and one that must be padded.
BACKBONES = {
    "vgg": ["Base-Classifier.yaml", "MODEL.VGG.DEPTH", 11, "MODEL.VGG.WIDTH", 0.05],
    "vgg_fc": [
        "Base-Classifier.yaml",
        "MODEL.VGG.DEPTH",
        11,
        "MODEL.VGG.WIDTH",
        0.05,
        "MODEL.CLASSIFIER.POOLING",
        "fc",
    ],
    "resnet": ["Base-ResNet50.yaml", "MODEL.RESNETS.RES2_OUT_CHANNELS", 16, "MODEL.RESNETS.STEM_OUT_CHANNELS", 8],
    "lite": ["Base-EfficientNetLite0.yaml"],
}


def small_student(name):
    file, *options = BACKBONES[name]
    cfg = default_config()
    cfg.merge_from_file(str(CONFIGS / "Base-Classifier.yaml"))
    if file != "Base-Classifier.yaml":
        cfg.merge_from_file(str(CONFIGS / file))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.NUM_CLASSES", 3, "MODEL.CLASSIFIER.FC_DIM", 8])
    cfg.merge_from_list(["MODEL.RESNETS.WIDTH_PER_GROUP", 4, *options])
    torch.manual_seed(0)
    model = build_model(cfg)
    torch.nn.init.normal_(model.head.linear.weight, std=0.5)  # so that scores differ between images
    return cfg, model.eval()


def metadata(cfg, preprocessing=True, channel_order="RGB", size=40):
    mean, std = (tuple(map(float, values)) for values in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD))
    return ExportMetadata(("a", "b", "c"), (0.5,) * 3, "", size, preprocessing, mean, std, channel_order)


def assert_same(model, about, folder):
    """Both files against the model, on 1, 2 and 5 images."""
    views = np.random.default_rng(0).integers(0, 256, (5, *about.input_shape(1)[-2:], 3), dtype=np.uint8)
    if about.preprocessing:
        views = np.random.default_rng(0).integers(0, 256, about.input_shape(5), dtype=np.uint8)
    program = trace(model, about)
    (folder / "student.onnx").write_bytes(onnx_content(program, about))
    (folder / "student.pt2").write_bytes(pt2_content(program, about))
    channels = views if about.channel_order == "RGB" else views[..., ::-1].copy()
    samples = [{"image": torch.from_numpy(view).permute(2, 0, 1)} for view in channels]
    with torch.no_grad():
        expected = np.stack([output["image_scores"].numpy() for output in model(samples)])
    assert np.ptp(expected, axis=0).max() > 1e-3
    for path in (folder / "student.onnx", folder / "student.pt2"):
        classifier = load_exported(path)
        for count in (1, 2, 5):
            found = classifier.scores_of_views(views[:count])
            np.testing.assert_allclose(found, expected[:count], atol=1e-5)


@pytest.mark.parametrize("name", ["vgg_fc", "resnet", pytest.param("lite", marks=pytest.mark.slow)])
def test_each_backbone_gives_the_same(name, tmp_path):
    cfg, model = small_student(name)
    assert_same(model, metadata(cfg), tmp_path)


@pytest.mark.parametrize("preprocessing", [True, False])
def test_the_order_of_the_channels_is_that_of_the_network(preprocessing, tmp_path):
    cfg, model = small_student("vgg")
    assert_same(model, metadata(cfg, preprocessing, "BGR"), tmp_path)


def test_lite0_is_traced_for_any_batch():
    cfg, model = small_student("lite")
    network = trace(model, metadata(cfg)).module()
    images = torch.randint(0, 256, (3, 40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = [output["image_scores"] for output in model([{"image": i.permute(2, 0, 1)} for i in images])]
        for count in (1, 3):
            torch.testing.assert_close(network(images[:count]), torch.stack(expected)[:count], atol=1e-5, rtol=0)


def test_sizes_that_do_not_divide_are_padded_as_the_model_does(tmp_path, monkeypatch):
    cfg, model = small_student("vgg")
    monkeypatch.setattr(type(model.backbone), "size_divisibility", 32)
    assert_same(model, metadata(cfg), tmp_path)


def test_the_onnx_file_is_plain_and_says_nothing_of_this_machine(exported):
    content = exported.onnx.read_bytes()
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", OPSET)]
    assert not model.functions and all(node.domain == "" for node in model.graph.node)
    for secret in (b"site-packages", b"mlickd/export", bytes(exported.run.parent)):
        assert secret not in content and secret not in exported.pt2.read_bytes()


def test_a_pytorch_that_writes_other_files_is_refused(exported, student, monkeypatch):
    def save(program, file, **options):
        with zipfile.ZipFile(file, "w") as archive:  # as PyTorch 2.4 lays it out
            for name in ("serialized_exported_program.json", "serialized_state_dict.json", "version"):
                archive.writestr(name, b"")

    monkeypatch.setattr(torch.export, "save", save)
    about = load_exported(exported.pt2).metadata
    with pytest.raises(InputError, match=r"cannot be opened again; export to .onnx, or install PyTorch 2\.14,"):
        pt2_content(trace(student, about), about)


def test_a_pytorch_that_cannot_read_a_file_says_what_is_known_to(exported, monkeypatch):
    def load(file):
        raise RuntimeError("unknown schema version")

    monkeypatch.setattr(torch.export, "load", load)
    with pytest.raises(InputError, match=r"can read \(unknown schema version\); .* PyTorch 2\.14, the least version"):
        load_exported(exported.pt2)
