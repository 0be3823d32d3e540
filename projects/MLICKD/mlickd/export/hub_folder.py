"""A student in a Hugging Face model folder: find or download, load, upload.

The folder contains ``config.json``, the model card ``README.md``, and the network: ``model.safetensors``, which timm
also loads from this folder, or ``model.onnx``. Nothing is unpickled. This module does not import Detectron2.
"""

import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mlickd.errors import InputError

from .exported_classifier import ExportedClassifier, ExportMetadata, load_exported

logger = logging.getLogger(__name__)

CONFIG, CARD, TIMM, ONNX = HUB_FILES = ["config.json", "README.md", "model.safetensors", "model.onnx"]
_REPOSITORY = re.compile(r"(?!.*\.(bin|json|onnx|pkl|pt|pth|safetensors|yaml|yml)$)\w[\w.-]*/\w[\w.-]*", re.ASCII)


def find_hub_folder(source: str | os.PathLike[str]) -> Path | None:
    """Return the model folder of a student, or None if ``source`` is another path.

    The model ``user/name`` on the Hub is downloaded into the Hub's cache.

    Raises:
        InputError: the path does not exist, and the Hub does not have the model or cannot be reached.
    """
    path = Path(os.path.expanduser(source))
    if not is_hub_student(source):
        return None
    if path.exists():
        return path
    from huggingface_hub import snapshot_download  # here, because most models are local

    logger.warning("%s: no such path, so this model is downloaded from the Hugging Face Hub", path)
    with _hub_errors(f"{path}: no such path, and on the Hub"):
        return Path(snapshot_download(path.as_posix(), allow_patterns=[CONFIG, TIMM, ONNX]))


def is_hub_student(source: str | os.PathLike[str]) -> bool:
    """Return whether this is the model folder of a student, or ``user/name`` on the Hub, unlike ``./folder/name``.

    Raises:
        InputError: the folder ``user`` exists, but not ``user/name``.
    """
    path = Path(os.path.expanduser(source))
    if path.exists() or not _REPOSITORY.fullmatch(os.fspath(source).replace(os.sep, "/")):
        return has_student_config(path)
    if path.parent.exists():
        raise InputError(f"{path}: is not in the folder {path.parent}, so it is not searched on the Hub; correct it")
    return True


def load_hub_folder(folder: Path) -> ExportedClassifier:
    """Load a student that ``mlickd export --hub`` wrote.

    Raises:
        InputError: a file is missing or corrupt, or the files do not fit each other.
    """
    if not has_student_config(folder):
        raise InputError(f"{folder}: is not a student of MLICKD; name a model that `mlickd export --hub` wrote")
    if not (folder / TIMM).is_file():
        return load_exported(folder / ONNX)
    import timm
    import torch
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        texts = {name: value if name == "format" else json.dumps(value) for name, value in config["mlickd"].items()}
        metadata = ExportMetadata.from_properties(texts, CONFIG)
        name, arguments = config["architecture"], config["model_args"]
        if not timm.is_model(name) or arguments.keys() != {"global_pool"}:  # others may load files
            raise ValueError(f"unknown network {name} {arguments}")
        network = timm.create_model(name, num_classes=len(metadata.class_names), **arguments).eval()
        network.load_state_dict(load_file(folder / TIMM))
        mean, std = (255 * torch.tensor(config["pretrained_cfg"][key]).view(3, 1, 1) for key in ("mean", "std"))
    except Exception as error:  # timm and damaged files can raise any error
        reason = f"{CONFIG} or {TIMM} is damaged, or they do not fit each other ({error!r:.200})"
        raise InputError(f"{folder}: {reason}; export the student again") from error
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"  # torchrun sets it
    network = network.to(device, memory_format=torch.channels_last)  # as in TimmBackbone
    mean, std = mean.to(device), std.to(device)

    @torch.inference_mode()
    def scores(pixels: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)  # has the channels last
        return network((images - mean) / std).sigmoid().cpu().numpy()

    return ExportedClassifier(f"{folder}", metadata, scores)


def push_to_hub(folder: str | os.PathLike[str], name: str) -> str:
    """Upload a folder as the model ``user/name``, which is created if it is missing, and return its address.

    Raises:
        InputError: the folder is not an exported student, the model is of another program, the user is not logged in,
            or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    if not has_student_config(Path(folder)):
        raise InputError(f"{folder}: is not a folder that `mlickd export --hub` wrote; give --run to write it")
    api = HfApi()
    with _hub_errors(f"--push {name}"), tempfile.TemporaryDirectory() as temporary:
        address = api.create_repo(name, exist_ok=True)
        found = {*api.list_repo_files(name)} - {".gitattributes"}  # the Hub adds it
        if CONFIG in found:
            api.hf_hub_download(name, CONFIG, local_dir=temporary)  # in the Hub's cache, the model would be incomplete
        if found and not has_student_config(Path(temporary)):
            raise InputError(f"--push {name}: exists, and its files are of another program; give a new name")
        # Files of an earlier upload are deleted if this folder does not have them.
        api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=HUB_FILES, delete_patterns=HUB_FILES)
    return f"{address}"


def has_student_config(folder: Path) -> bool:
    """Return whether a folder has a ``config.json`` that MLICKD wrote."""
    file = folder / CONFIG
    return file.is_file() and '"mlickd"' in file.read_text(encoding="utf-8", errors="replace")


@contextmanager
def _hub_errors(subject: str) -> Iterator[None]:
    """Turn an error of the Hub or of the network into an InputError that begins with ``subject``."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the classes of network errors depend on the version of huggingface_hub
        problem = f"{(str(error).strip() or repr(error)).splitlines()[0]}; check the connection and the name"
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403, 404):
            problem = (
                "it does not exist, or you are not logged in or have no right to it; check the name, or `hf auth login`"
            )
        raise InputError(f"{subject}: {problem}") from error
