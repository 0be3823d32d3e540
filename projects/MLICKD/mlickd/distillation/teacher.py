"""A frozen teacher, and a source of knowledge that runs it on each batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from math import log

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Instances

from mlickd.modeling.checkpoint import load_checkpoint
from mlickd.modeling.meta_arch import mirrored_view
from mlickd.modeling.roi_heads import RegionPredictions

from .distillers.base import check_layers
from .knowledge import RegionKnowledge, TeacherKnowledge, select_regions
from .request import MAP_KINDS, KnowledgeRequest
from .teacher_config import load_teacher_config, pooler_arguments

__all__ = ["FrozenTeacher", "LiveTeacher", "average_streams"]

logger = logging.getLogger(__name__)


class FrozenTeacher:
    """A trained teacher that returns its knowledge of regions and does not learn."""

    def __init__(self, cfg: CfgNode, teacher_cfg: CfgNode, request: KnowledgeRequest):
        """Build the teacher and load its checkpoint completely, or stop.

        Args:
            cfg: configuration of the distillation.
            teacher_cfg: the teacher's configuration, see :func:`load_teacher_config`.
            request: what the teacher returns for an image in addition to the logits of its regions.

        Raises:
            InputError: the teacher's checkpoint does not fit its configuration, or a layer is missing.
        """
        self.model = build_model(teacher_cfg)
        load_checkpoint(self.model, teacher_cfg.MODEL.WEIGHTS, "KD.TEACHER.WEIGHTS")
        self.model.eval().requires_grad_(False)
        logger.info("Teacher: %s, at %d pixels", teacher_cfg.MODEL.WEIGHTS, teacher_cfg.INPUT.SIZE_TEST)
        self.request = request
        self.flip = teacher_cfg.KD.TEACHER.FLIP
        self.rule = {key.lower(): value for key, value in cfg.KD.REGIONS.items()}
        self.after_box_head = cfg.KD.FEATURE.COMPARE == "box_head"
        shapes = self.model.backbone.output_shape()
        check_layers([*request.region_layers, *(layer for _, layer in request.maps)], shapes, "teacher")
        self.poolers = {
            layer: ROIPooler(scales=(1.0 / shapes[layer].stride,), **pooler_arguments(teacher_cfg))
            for layer in request.region_layers
        }

    @torch.inference_mode()
    def __call__(self, images: Sequence[torch.Tensor], proposals: Sequence[Instances]) -> list[RegionKnowledge]:
        """Return the knowledge of each view, on the teacher's device, without history for autograd.

        Args:
            images: the teacher's views, (3, H, W) each, 0 to 255.
            proposals: proposals of each view, with ``proposal_boxes`` and ``objectness``, in its pixels.
        """
        proposals = [p.to(self.model.device) for p in proposals]
        maps, predictions = self.model.predict_regions(images, proposals)
        if self.flip:
            pairs = zip(images, proposals, strict=True)
            mirrored = [mirrored_view({"image": image, "proposals": regions}) for image, regions in pairs]
            images, regions = ([view[key] for view in mirrored] for key in ("image", "proposals"))
            predictions = average_streams([predictions, self.model.predict_regions(images, regions)[1]])
        streams = (predictions.class_logits, predictions.detection_logits)
        known = [
            RegionKnowledge(*logits) for logits in zip(*(s.split(predictions.counts) for s in streams), strict=True)
        ]
        if self.request.region_layers:
            self._select(known, proposals, predictions)
            self._add_features(known, proposals, maps, predictions)
        for kind, layer in self.request.maps:
            for image_knowledge, whole in zip(known, MAP_KINDS[kind](maps[layer]), strict=True):
                image_knowledge.maps[kind, layer] = whole
        return known

    def _select(self, known: list[RegionKnowledge], proposals: list[Instances], predictions: RegionPredictions) -> None:
        scores = self.model.roi_heads.detection_scores(predictions)
        for image_knowledge, regions, image_scores in zip(known, proposals, scores, strict=True):
            image_knowledge.selected, image_knowledge.weights = select_regions(
                regions.proposal_boxes.tensor, image_scores, regions.objectness, **self.rule
            )

    def _add_features(
        self,
        known: list[RegionKnowledge],
        proposals: list[Instances],
        maps: dict[str, torch.Tensor],
        predictions: RegionPredictions,
    ) -> None:
        if self.after_box_head:
            (layer,) = self.poolers
            weights = self.model.roi_heads.proposal_weights(proposals).split(predictions.counts)
            embeddings = predictions.embeddings.split(predictions.counts)
            features = {layer: [e[k.selected] for e, k in zip(embeddings, known, strict=True)]}
            for image_knowledge, factors in zip(known, weights, strict=True):
                image_knowledge.proposal_weights = factors[image_knowledge.selected]
        else:
            boxes = [p.proposal_boxes[k.selected] for p, k in zip(proposals, known, strict=True)]
            counts = [len(b) for b in boxes]
            features = {}
            for layer, pooler in self.poolers.items():
                if layer == self.model.roi_heads.in_feature:  # the heads have pooled all regions from this map
                    pooled = predictions.pooled.split(predictions.counts)
                    features[layer] = [regions[k.selected] for regions, k in zip(pooled, known, strict=True)]
                else:
                    features[layer] = pooler([maps[layer]], boxes).split(counts)
        for layer, image_features in features.items():
            for image_knowledge, feature in zip(known, image_features, strict=True):
                image_knowledge.features[layer] = feature
                image_knowledge.map_sizes[layer] = tuple(maps[layer].shape[-2:])


class LiveTeacher:
    """Runs the teacher on the teacher's view of each batch.

    Samples need ``proposals`` (in the student's view), ``teacher_image`` and ``teacher_proposals`` (the teacher's, the
    same regions in the same order); see :class:`mlickd.data.MultiLabelMapper`.
    """

    def __init__(self, cfg: CfgNode, teacher_cfg: CfgNode | None = None):
        """Load the teacher, which gives what the stage ``KD.STAGE`` needs.

        Args:
            cfg: configuration of the distillation.
            teacher_cfg: the teacher's configuration; None loads it.

        Raises:
            InputError: see :class:`FrozenTeacher`.
        """
        teacher_cfg = teacher_cfg or load_teacher_config(cfg)
        self.teacher = FrozenTeacher(cfg, teacher_cfg, KnowledgeRequest.from_stage(cfg))
        self.temperature = cfg.KD.PREDICTION.TEACHER_TEMPERATURE

    @property
    def model(self) -> torch.nn.Module:
        """The teacher's model."""
        return self.teacher.model

    def __call__(self, batched_inputs: Sequence[dict]) -> list[TeacherKnowledge]:
        """Return the knowledge of each sample: image scores, and the regions with their features or the maps."""
        regions = self.teacher(
            [s["teacher_image"] for s in batched_inputs], [s["teacher_proposals"] for s in batched_inputs]
        )
        knowledge = [
            known.as_knowledge(sample["proposals"].proposal_boxes.tensor, self.temperature)
            for known, sample in zip(regions, batched_inputs, strict=True)
        ]
        # Autograd does not save tensors of inference mode for a backward pass, but it saves their copies.
        return [known.map(torch.clone) for known in knowledge]


def average_streams(predictions: Sequence[RegionPredictions]) -> RegionPredictions:
    """Return logits of both streams whose softmaxes are the means of the softmaxes over several views.

    Both stay logits, so all that is done with the logits of one view still applies: temperatures, which then divide the
    logits of the means, and the regions of a crop. A region's score is the product of the two means. (Evaluation takes
    the mean of the products, see :class:`mlickd.modeling.ImageModelWithTTA`.)

    Args:
        predictions: predictions of the same images and regions in each view.

    Returns:
        The first, with these logits.
    """
    first = predictions[0]
    classes = [p.class_logits.log_softmax(dim=1) for p in predictions]
    regions = [
        torch.cat([logits.log_softmax(dim=0) for logits in p.detection_logits.split(p.counts)]) for p in predictions
    ]
    # Their softmaxes are the means themselves: over the classes, and over the regions of an image, both sum to one.
    return replace(first, class_logits=_log_mean(classes), detection_logits=_log_mean(regions))


def _log_mean(log_probabilities: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(log_probabilities)).logsumexp(dim=0) - log(len(log_probabilities))
