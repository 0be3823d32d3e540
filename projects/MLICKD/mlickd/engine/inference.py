"""A finished run, loaded for use."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.evaluation.evaluator import inference_context
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager
from torch import nn

from mlickd.config import default_config
from mlickd.config_files import merge_config_file
from mlickd.data.build import build_inference_mapper
from mlickd.errors import InputError
from mlickd.modeling import load_checkpoint

from .setup import STUDENT_CHECKPOINT

__all__ = ["check_has_learned", "load_run", "model_config", "predict", "run_config"]


def load_run(folder: str) -> tuple[CfgNode, nn.Module]:
    """The configuration and the model that training left in ``folder`` (an ``OUTPUT_DIR``), ready for inference.

    Of a run with distillation it is the student, as the plain classifier that it is.

    Raises:
        InputError: the folder holds no finished run.
    """
    cfg = run_config(folder)
    model = build_model(cfg)
    load_checkpoint(model, cfg.MODEL.WEIGHTS, "run folder: checkpoint")
    return cfg, model.eval()


def check_has_learned(cfg: CfgNode, run: str | os.PathLike[str]) -> None:
    """
    Args:
        cfg: of a run.
        run: its folder or checkpoint, for the message.

    Raises:
        InputError: it is stage 1 of a distillation, whose classifier has seen no label.
    """
    if cfg.KD.STAGE == "feature":
        raise InputError(
            f"{run}: is stage 1 of a distillation, whose classifier has seen no label yet; name the run of stage 2, "
            "prediction"
        )


def run_config(folder: str) -> CfgNode:
    """The configuration that training left in ``folder``, of the model for use and with its checkpoint.

    Raises:
        InputError: the folder holds no run.
    """
    config_file = os.path.join(folder, "config.yaml")
    if not PathManager.isfile(config_file):
        raise InputError(f"{config_file}: no such file; name the OUTPUT_DIR of a finished run")
    return model_config(config_file)


def model_config(config_file: str, checkpoint: str | None = None) -> CfgNode:
    """The configuration of the model for use: of a student in distillation, that of the plain classifier.

    Args:
        config_file: that training has left.
        checkpoint: of the model; None takes that beside the configuration.

    Raises:
        InputError: the file is missing, or no complete configuration.
    """
    if not PathManager.isfile(config_file):
        raise InputError(f"{config_file}: no such file; name the config.yaml that training has left")
    cfg = default_config()
    merge_config_file(cfg, config_file, f"{config_file} is no configuration of this project")
    if cfg.MODEL.NUM_CLASSES < 1:
        raise InputError(f"{config_file}: MODEL.NUM_CLASSES is open; name the config.yaml that training has left")
    cfg.MODEL.TIMM.PRETRAINED = False  # the checkpoint replaces whatever would be downloaded
    name = "model_final.pth"
    if cfg.MODEL.META_ARCHITECTURE == "DistilledClassifier":
        cfg.MODEL.META_ARCHITECTURE = "MultiLabelClassifier"
        name = STUDENT_CHECKPOINT
    cfg.MODEL.WEIGHTS = checkpoint or os.path.join(os.path.dirname(config_file), name)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    return cfg


def predict(
    cfg: CfgNode, model: nn.Module, records: Sequence[dict], dataset_name: str | None = None
) -> dict[object, dict]:
    """The model's outputs for images of a dataset or any others.

    Args:
        cfg: of the model: input size and format, proposals.
        records: with ``file_name``, ``image_id``, ``height`` and ``width``.
        dataset_name: dataset of the records, whose proposals are taken. Where they are not there, or the photos are of
            no dataset (None), proposals are made on the fly.

    Returns:
        Outputs by image id: ``image_scores`` (C,), and ``instances`` in original pixels from a teacher; on the CPU.
    """
    loader = build_detection_test_loader(
        dataset=list(records),
        mapper=build_inference_mapper(cfg, dataset_name),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        num_workers=0,
    )
    outputs = {}
    with inference_context(model), torch.no_grad():
        for batch in loader:
            for sample, output in zip(batch, model(batch), strict=True):
                outputs[sample["image_id"]] = {key: value.to("cpu") for key, value in output.items()}
    return outputs
