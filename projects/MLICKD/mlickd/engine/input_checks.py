"""Checks of data, model and checkpoints before a run writes anything."""

from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import nn

from mlickd.data import open_proposals
from mlickd.data.build import needs_knowledge, needs_proposals, training_datasets
from mlickd.data.catalog import check_run_classes, dataset_records
from mlickd.distillation.cache import CachedKnowledge
from mlickd.distillation.knowledge_request import KnowledgeRequest
from mlickd.distillation.teacher_config import check_teacher, load_teacher_config
from mlickd.errors import InputError
from mlickd.files import require_file
from mlickd.modeling.backbone import check_backbone_weights
from mlickd.modeling.checkpoint import check_checkpoint, check_fits, model_blueprint, read_checkpoint

from .checkpointing import check_initial_weights, saved_checkpoints


def check_inputs(cfg: CfgNode, *, eval_only: bool = False, resume: bool = False) -> None:
    """Check that the model can be built, and that data, proposals, checkpoints and teacher fit it.

    Args:
        cfg: configuration, changed by :func:`mlickd.engine.finalize_config`.
        eval_only: the run only evaluates.
        resume: result of :func:`mlickd.engine.checkpointing.decide_to_resume`.

    Raises:
        InputError: something is missing, corrupt, or does not fit.
    """
    # Build the model before data is read, so that wrong values are found first.
    model = model_blueprint(cfg)
    _check_image_sizes(cfg, model, eval_only)
    _check_weights(cfg, model, eval_only, resume)
    if not eval_only:
        check_unlabeled(cfg)
    for training, names in ((True, () if eval_only else training_datasets(cfg)), (False, cfg.DATASETS.TEST)):
        for name in names:
            records = dataset_records(name, boxes=False)
            if needs_proposals(cfg, training=training):
                open_proposals(cfg, name).check(records)
    if not eval_only and needs_knowledge(cfg):
        check_teacher(cfg, load_teacher_config(cfg), None if cfg.KD.CACHE else KnowledgeRequest.for_stage(cfg))
        if cfg.KD.CACHE:
            CachedKnowledge(cfg)  # opens it


def _check_image_sizes(cfg: CfgNode, model: nn.Module, eval_only: bool) -> None:
    """Check that the backbone accepts images of all sizes, because some networks accept only one size."""
    backbone = getattr(model, "student", model).backbone.eval()
    device, divisor = next(backbone.parameters()).device, max(backbone.size_divisibility, 1)
    sizes = {cfg.INPUT.SIZE_TEST, *(() if eval_only else cfg.INPUT.SIZES_TRAIN)}
    sizes.update(cfg.TEST.AUG.MIN_SIZES if cfg.TEST.AUG.ENABLED else ())
    for size in sizes if device.type == "meta" else ():
        side = -(-size // divisor) * divisor
        try:
            with torch.no_grad():
                backbone(torch.zeros(1, 3, side, side, device=device))
        except InputError:
            raise
        except Exception as error:  # networks raise many kinds of errors
            if "meta" in f"{error}":  # an operation that needs values
                continue
            raise InputError(
                f"INPUT.SIZES_TRAIN, INPUT.SIZE_TEST: the backbone does not accept images of {size} pixels ({error}); "
                "set the size that it expects"
            ) from error


def _check_weights(cfg: CfgNode, model: nn.Module, eval_only: bool, resume: bool) -> None:
    """Check that the checkpoint or the weights that the run starts from fit the model."""
    target, folder = getattr(model, "student", model), Path(cfg.OUTPUT_DIR)
    if resume:
        for name in saved_checkpoints(folder):
            path = str(folder / name)
            try:
                content = read_checkpoint(path, "--resume", mmap=True)
            except InputError:
                continue  # it is corrupt; the run continues from an earlier checkpoint
            check_fits(model, content, "--resume", path)
            check_run_classes(path, "--resume", cfg.DATASETS.TEST[0])
            return
    elif cfg.MODEL.WEIGHTS:
        remedy = "train it first"
        if cfg.KD.STAGE == "prediction" and "feature" in cfg.KD.METHOD_STAGES and not eval_only:
            remedy = "run stage 1 first, skip it with KD.METHOD_STAGES \"('prediction',)\""
        require_file(cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS", f"{remedy}, or give another path")
        check_checkpoint(target, cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS")
        if eval_only:
            check_run_classes(cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS", cfg.DATASETS.TEST[0])
        else:
            check_initial_weights(folder, cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS")
    elif cfg.MODEL.BACKBONE.WEIGHTS:
        check_initial_weights(folder, cfg.MODEL.BACKBONE.WEIGHTS, "MODEL.BACKBONE.WEIGHTS")
        check_backbone_weights(target, cfg.MODEL.BACKBONE.WEIGHTS)


def check_unlabeled(cfg: CfgNode) -> None:
    """Raise InputError if an image is both labeled and unlabeled."""
    datasets = cfg.DATASETS
    labels = datasets.TRAIN if datasets.UNLABELED else ()
    labeled = {record["file_name"]: name for name in labels for record in dataset_records(name, boxes=False)}
    for name in datasets.UNLABELED:
        for record in dataset_records(name, boxes=False):
            if record["file_name"] in labeled:
                raise InputError(
                    f"DATASETS.UNLABELED: image {record['image_id']} of {name} is also in "
                    f"{labeled[record['file_name']]} of DATASETS.TRAIN; give parts without common images, such as "
                    "NAME@1of4 and NAME@not1of4"
                )
