"""A frozen teacher, and knowledge that it makes for a batch as it comes."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Instances

from mlickd.config import default_config
from mlickd.config_files import merge_config_file
from mlickd.data.build import model_class
from mlickd.errors import InputError
from mlickd.files import require_file
from mlickd.modeling.checkpoint import check_checkpoint, load_checkpoint, model_blueprint
from mlickd.modeling.meta_arch import mirrored_view
from mlickd.modeling.roi_heads import RegionPredictions

from .averaging import averaged_streams
from .knowledge import TeacherKnowledge, select_regions
from .regions import RegionKnowledge
from .request import MAP_KINDS, KnowledgeRequest
from .teacher_files import with_teacher_of

__all__ = [
    "FrozenTeacher",
    "LiveTeacher",
    "check_teacher",
    "load_teacher_config",
    "pooler_arguments",
    "region_rule",
    "teacher_shapes",
]

logger = logging.getLogger(__name__)


def load_teacher_config(cfg: CfgNode) -> CfgNode:
    """The teacher's configuration: ``KD.TEACHER.CONFIG_FILE``, or the config.yaml beside ``KD.TEACHER.WEIGHTS``.

    Raises:
        InputError: no teacher is given, the file is missing, or the teacher has other classes.
    """
    cfg = with_teacher_of(cfg)
    path = cfg.KD.TEACHER.CONFIG_FILE
    if not path:
        if not cfg.KD.TEACHER.WEIGHTS:
            raise InputError("KD.TEACHER.WEIGHTS is empty; give the checkpoint of a trained teacher")
        path = os.path.join(os.path.dirname(cfg.KD.TEACHER.WEIGHTS), "config.yaml")
    require_file(path, "KD.TEACHER.CONFIG_FILE", "train the teacher first, or give its configuration")
    teacher_cfg = default_config()
    merge_config_file(teacher_cfg, path, f"KD.TEACHER.CONFIG_FILE {path} is no configuration of this project")
    if not model_class(teacher_cfg).is_detector:
        raise InputError(
            f"KD.TEACHER.CONFIG_FILE {path}: a {teacher_cfg.MODEL.META_ARCHITECTURE} is no teacher; give the run of a "
            "WeaklySupervisedDetector"
        )
    # The checkpoint is loaded by LiveTeacher; nothing is to be downloaded for a model that is about to be replaced.
    teacher_cfg.MODEL.BACKBONE.WEIGHTS = ""
    teacher_cfg.MODEL.TIMM.PRETRAINED = False
    teacher_cfg.MODEL.DEVICE = cfg.MODEL.DEVICE
    # How it speaks to a student is the distillation's choice, and of a cache part of what it was made with.
    teacher_cfg.KD.TEACHER.FLIP = cfg.KD.TEACHER.FLIP
    if teacher_cfg.MODEL.NUM_CLASSES == -1:
        teacher_cfg.MODEL.NUM_CLASSES = cfg.MODEL.NUM_CLASSES
    if teacher_cfg.MODEL.NUM_CLASSES != cfg.MODEL.NUM_CLASSES:
        raise InputError(
            f"KD.TEACHER.CONFIG_FILE {path}: the teacher has {teacher_cfg.MODEL.NUM_CLASSES} classes, the student "
            f"{cfg.MODEL.NUM_CLASSES}; train a teacher on the same classes"
        )
    teacher_cfg.freeze()
    return teacher_cfg


def check_teacher(cfg: CfgNode, dataset: str | None = None) -> None:
    """Check that :class:`FrozenTeacher` will find a checkpoint that fits its configuration, without loading it.

    Args:
        cfg: of the distillation.
        dataset: whose teacher it is, see :func:`with_teacher_of`.

    Raises:
        InputError: it will not.
    """
    cfg = with_teacher_of(cfg, dataset)
    check_checkpoint(model_blueprint(load_teacher_config(cfg)), cfg.KD.TEACHER.WEIGHTS, "KD.TEACHER.WEIGHTS")


def pooler_arguments(teacher_cfg: CfgNode) -> dict:
    """RoI pooling of the teacher, which the student's regions are pooled with too."""
    return {
        "output_size": teacher_cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION,
        "sampling_ratio": teacher_cfg.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO,
        "pooler_type": teacher_cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE,
    }


def teacher_shapes(teacher_cfg: CfgNode) -> dict[str, ShapeSpec]:
    """Channels and strides of the feature maps of the teacher's backbone, without making its parameters."""
    with torch.device("meta"):
        return build_backbone(teacher_cfg).output_shape()


def region_rule(cfg: CfgNode) -> dict:
    """``KD.REGIONS`` as arguments of :func:`select_regions`."""
    return {
        "weight": cfg.KD.REGIONS.WEIGHT,
        "normalize": cfg.KD.REGIONS.NORMALIZE_WEIGHT,
        "nms_thresh": cfg.KD.REGIONS.NMS_THRESH,
        "top_k": cfg.KD.REGIONS.TOP_K,
    }


class FrozenTeacher:
    """A trained teacher that says what it knows of regions and does not learn."""

    def __init__(self, cfg: CfgNode, request: KnowledgeRequest):
        """Build the teacher of ``cfg.KD.TEACHER`` and load it completely, or stop.

        Args:
            cfg: of the distillation.
            request: what the teacher is to say of an image beside the logits of its regions.

        Raises:
            InputError: the teacher's checkpoint or configuration does not fit, or it has not the layers.
        """
        teacher_cfg = load_teacher_config(cfg)
        self.model = build_model(teacher_cfg)
        load_checkpoint(self.model, cfg.KD.TEACHER.WEIGHTS, "KD.TEACHER.WEIGHTS")
        self.model.eval().requires_grad_(False)
        logger.info("Teacher: %s, at %d pixels", cfg.KD.TEACHER.WEIGHTS, teacher_cfg.INPUT.SIZE_TEST)
        self.request = request
        self.flip = cfg.KD.TEACHER.FLIP
        self.rule = region_rule(cfg)
        self.behind_box_head = cfg.KD.FEATURE.COMPARE == "box_head"
        shapes = self.model.backbone.output_shape()
        self.poolers = {
            layer: ROIPooler(scales=(1.0 / shapes[layer].stride,), **pooler_arguments(teacher_cfg))
            for layer in request.region_layers
            if layer in shapes
        }

    @torch.inference_mode()
    def __call__(self, images: Sequence[torch.Tensor], proposals: Sequence[Instances]) -> list[RegionKnowledge]:
        """
        Args:
            images: the teacher's views, (3, H, W) each, 0 to 255.
            proposals: of each, with ``proposal_boxes`` and ``objectness``, in its pixels.

        Returns:
            Of each view, on the teacher's device, without history for autograd.
        """
        proposals = [p.to(self.model.device) for p in proposals]
        maps, predictions = self.model.predict_regions(images, proposals)
        if self.flip:
            pairs = zip(images, proposals, strict=True)
            mirrored = [mirrored_view({"image": image, "proposals": regions}) for image, regions in pairs]
            images, regions = ([view[key] for view in mirrored] for key in ("image", "proposals"))
            predictions = averaged_streams([predictions, self.model.predict_regions(images, regions)[1]])
        streams = (predictions.class_logits, predictions.detection_logits)
        known = [
            RegionKnowledge(*logits) for logits in zip(*(s.split(predictions.counts) for s in streams), strict=True)
        ]
        if self.request.region_layers:
            self._select(known, proposals, predictions)
            self._add_features(known, proposals, maps, predictions)
        for kind, layer in self.request.maps:
            for of_image, of_view in zip(known, MAP_KINDS[kind](maps[layer]), strict=True):
                of_image.maps[kind, layer] = of_view
        return known

    def _select(self, known: list[RegionKnowledge], proposals: list[Instances], predictions: RegionPredictions) -> None:
        scores = self.model.roi_heads.detection_scores(predictions)
        for of_image, regions, of_regions in zip(known, proposals, scores, strict=True):
            of_image.selected, of_image.weights = select_regions(
                regions.proposal_boxes.tensor, of_regions, regions.objectness, **self.rule
            )

    def _add_features(
        self,
        known: list[RegionKnowledge],
        proposals: list[Instances],
        maps: dict[str, torch.Tensor],
        predictions: RegionPredictions,
    ) -> None:
        if self.behind_box_head:
            (layer,) = self.poolers
            weights = self.model.roi_heads.proposal_weights(proposals).split(predictions.counts)
            embeddings = predictions.embeddings.split(predictions.counts)
            features = {layer: [e[k.selected] for e, k in zip(embeddings, known, strict=True)]}
            for of_image, factors in zip(known, weights, strict=True):
                of_image.proposal_weights = factors[of_image.selected]
        else:
            boxes = [p.proposal_boxes[k.selected] for p, k in zip(proposals, known, strict=True)]
            counts = [len(b) for b in boxes]
            features = {}
            for layer, pooler in self.poolers.items():
                if layer == self.model.roi_heads.in_feature:  # the heads have pooled all regions of it already
                    pooled = predictions.pooled.split(predictions.counts)
                    features[layer] = [of_image[k.selected] for of_image, k in zip(pooled, known, strict=True)]
                else:
                    features[layer] = pooler([maps[layer]], boxes).split(counts)
        for layer, of_images in features.items():
            for of_image, feature in zip(known, of_images, strict=True):
                of_image.features[layer] = feature
                of_image.map_sizes[layer] = tuple(maps[layer].shape[-2:])


class LiveTeacher:
    """Runs the teacher on the teacher's view of each batch.

    Samples need ``proposals`` (in the student's view), ``teacher_image`` and ``teacher_proposals`` (the teacher's, the
    same regions in the same order); see :class:`mlickd.data.MultiLabelMapper`.
    """

    def __init__(self, cfg: CfgNode):
        """See :class:`FrozenTeacher`; it is asked for what the stage ``KD.STAGE`` needs."""
        self.teacher = FrozenTeacher(cfg, KnowledgeRequest.of_stage(cfg))
        self.temperature = cfg.KD.PREDICTION.TEACHER_TEMPERATURE

    @property
    def model(self) -> torch.nn.Module:
        """The teacher itself."""
        return self.teacher.model

    def __call__(self, batched_inputs: Sequence[dict]) -> list[TeacherKnowledge]:
        """Knowledge of each sample: image scores, and the regions with their features or the maps that are needed."""
        regions = self.teacher(
            [s["teacher_image"] for s in batched_inputs], [s["teacher_proposals"] for s in batched_inputs]
        )
        knowledge = [
            known.as_knowledge(sample["proposals"].proposal_boxes.tensor, self.temperature)
            for known, sample in zip(regions, batched_inputs, strict=True)
        ]
        # Autograd does not save tensors of the inference mode for a backward pass; their copies it does.
        return [known.map(torch.clone) for known in knowledge]
