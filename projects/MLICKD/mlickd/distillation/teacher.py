"""A frozen teacher, and a source of knowledge that runs it on each batch."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from math import log

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes, Instances

from mlickd.modeling.checkpoint import load_checkpoint
from mlickd.modeling.meta_arch import mirrored_view
from mlickd.modeling.roi_heads import RegionPredictions, pooler_arguments

from .knowledge import TeacherKnowledge, TeacherOutputs, select_regions
from .knowledge_request import MAP_KINDS, KnowledgeRequest
from .teacher_config import load_teacher_config

logger = logging.getLogger(__name__)


class FrozenTeacher:
    """A trained teacher that computes its outputs for images and does not learn."""

    def __init__(self, cfg: CfgNode, teacher_cfg: CfgNode, request: KnowledgeRequest):
        """Build the teacher and load its checkpoint, in which no parameter may be missing.

        Args:
            cfg: configuration of the distillation.
            teacher_cfg: the teacher's configuration, see :func:`load_teacher_config`.
            request: features and maps to compute in addition to the logits of all regions.

        Raises:
            InputError: the teacher's checkpoint does not fit its configuration.
        """
        self.model = build_model(teacher_cfg)
        load_checkpoint(self.model, teacher_cfg.MODEL.WEIGHTS, "KD.TEACHER.WEIGHTS")
        self.model.eval().requires_grad_(False)
        logger.info("Teacher: %s, at %d pixels", teacher_cfg.MODEL.WEIGHTS, teacher_cfg.INPUT.SIZE_TEST)
        self.request = request
        self.flip = cfg.KD.TEACHER.FLIP
        self.rule = {key.lower(): value for key, value in cfg.KD.REGIONS.items()}
        self.after_box_head = cfg.KD.FEATURE.COMPARE == "box_head"
        shapes = self.model.backbone.output_shape()
        self.strides = {layer: shapes[layer].stride for layer in request.region_layers}
        self.pooler = ROIPooler(scales=(1.0,), **pooler_arguments(teacher_cfg))  # boxes are in cells of the map

    @torch.no_grad()  # autograd cannot save tensors of the inference mode for the student's backward pass
    def __call__(self, images: Sequence[torch.Tensor], proposals: Sequence[Instances]) -> list[TeacherOutputs]:
        """Return the outputs for each view, on the teacher's device, without gradients.

        Args:
            images: the teacher's views, (3, H, W) each, 0 to 255.
            proposals: proposals of each view, with ``proposal_boxes`` in pixels of the view, and ``objectness``.
        """
        proposals = [p.to(self.model.device) for p in proposals]
        maps, predictions = self.model.predict_regions(images, proposals)
        if self.flip:
            pairs = zip(images, proposals, strict=True)
            mirrored = [mirrored_view({"image": image, "proposals": regions}) for image, regions in pairs]
            images, regions = ([view[key] for view in mirrored] for key in ("image", "proposals"))
            flipped = self.model.predict_regions(images, regions)[1]
            if flipped.context_maps is not None:
                flipped.context_maps = flipped.context_maps.flip(-1)
            predictions = average_streams(predictions, flipped)
        streams = (predictions.class_logits, predictions.detection_logits)
        outputs = [TeacherOutputs(*both) for both in zip(*(s.split(predictions.counts) for s in streams), strict=True)]
        if predictions.context_maps is not None:
            for output, context_map in zip(outputs, predictions.context_maps, strict=True):
                output.context_map, output.context_weight = context_map, predictions.context_weight
        if self.request.region_layers:
            self._add_regions(outputs, proposals, maps, predictions)
        for kind, layer in self.request.maps:
            for output, whole in zip(outputs, MAP_KINDS[kind](maps[layer]), strict=True):
                output.maps[kind, layer] = whole
        return outputs

    def _add_regions(
        self,
        outputs: list[TeacherOutputs],
        proposals: list[Instances],
        maps: dict[str, torch.Tensor],
        predictions: RegionPredictions,
    ) -> None:
        """Select the regions R' of each image, and add their weights and features to the outputs."""

        def split_and_select(values: torch.Tensor) -> list[torch.Tensor]:
            pairs = zip(values.split(predictions.counts), outputs, strict=True)
            return [rows[output.selected] for rows, output in pairs]

        scores = self.model.roi_heads.detection_scores(predictions)
        for output, regions, region_scores in zip(outputs, proposals, scores, strict=True):
            output.selected, output.region_weights = select_regions(
                regions.proposal_boxes.tensor, region_scores, regions.objectness, **self.rule
            )
        boxes = [p.proposal_boxes[output.selected] for p, output in zip(proposals, outputs, strict=True)]
        for layer, stride in self.strides.items():
            if self.after_box_head:
                features = split_and_select(predictions.embeddings)
            else:
                in_cells = [Boxes(b.tensor / stride) for b in boxes]
                features = self.pooler([maps[layer]], in_cells).split([len(b) for b in boxes])
            for output, feature in zip(outputs, features, strict=True):
                output.features[layer] = feature
                output.map_sizes[layer] = tuple(maps[layer].shape[-2:])
        if self.after_box_head:
            factors = split_and_select(self.model.roi_heads.proposal_weights(proposals))
            for output, factor in zip(outputs, factors, strict=True):
                output.proposal_weights = factor


class LiveTeacher:
    """A source of knowledge that runs the teacher on the teacher's view of each image.

    Samples need ``proposals`` in the student's view, and ``teacher_image`` with ``teacher_proposals``, the same regions
    in the same order in the teacher's view; see :class:`mlickd.data.MultiLabelMapper`.
    """

    def __init__(self, cfg: CfgNode):
        """Load the teacher for ``KD.STAGE``; see :class:`FrozenTeacher`."""
        self.teacher = FrozenTeacher(cfg, load_teacher_config(cfg), KnowledgeRequest.for_stage(cfg))
        self.temperature = cfg.KD.PREDICTION.TEACHER_TEMPERATURE

    def __call__(self, batched_inputs: Sequence[dict]) -> list[TeacherKnowledge]:
        """Return the knowledge of each sample."""
        outputs = self.teacher(
            [s["teacher_image"] for s in batched_inputs], [s["teacher_proposals"] for s in batched_inputs]
        )
        return [
            output.to_knowledge(sample["proposals"].proposal_boxes.tensor, self.temperature)
            for output, sample in zip(outputs, batched_inputs, strict=True)
        ]


def average_streams(original: RegionPredictions, mirrored: RegionPredictions) -> RegionPredictions:
    """Return, for both streams, logits whose softmax is the mean of the softmaxes of two views.

    The result has logits, so everything that uses the logits of one view still applies, such as temperatures and the
    regions of a crop. The score of a region is the product of the two means. (Evaluation takes the mean of the
    products, see :class:`mlickd.modeling.ImageModelWithTTA`.) The maps of the context classifier are averaged as
    logits; maps of mirrored views must be flipped back before the call.

    Args:
        original, mirrored: predictions of the same images and regions in each view.

    Returns:
        The predictions of the first view, with the new logits.
    """

    def log_regions(predictions: RegionPredictions) -> torch.Tensor:
        return torch.cat([logits.log_softmax(dim=0) for logits in predictions.detection_logits.split(original.counts)])

    # The softmax of the logarithm of a mean is the mean, which sums to 1 over the classes or the regions.
    classes = torch.logaddexp(original.class_logits.log_softmax(dim=1), mirrored.class_logits.log_softmax(dim=1))
    regions = torch.logaddexp(log_regions(original), log_regions(mirrored))
    averaged = replace(original, class_logits=classes - log(2), detection_logits=regions - log(2))
    if averaged.context_maps is not None:
        averaged.context_maps = (original.context_maps + mirrored.context_maps) / 2
    return averaged
