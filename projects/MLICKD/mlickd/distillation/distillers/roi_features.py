"""Feature-level transfer (stage 1 of the paper): the student's RoI features imitate the teacher's RoI features."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import nn
from torch.nn import functional as F

from mlickd.distillation.knowledge import TeacherKnowledge
from mlickd.errors import InputError
from mlickd.modeling.roi_heads import pooler_arguments

from .base import FEATURE_DISTILLER_REGISTRY, FeatureDistiller, build_adapter


def roi_feature_loss(
    teacher: torch.Tensor, student: torch.Tensor, weights: torch.Tensor, counts: Sequence[int]
) -> torch.Tensor:
    """Return L_f of the paper: ``1/(2N) * sum_n 1/|R'_n| * sum_R || s'_R (F^T_R - F^S_R) ||_2^2``.

    Args:
        teacher, student: (M, ...) features of the regions of all images, not weighted by s'.
        weights: (M,) s' of each region.
        counts: |R'_n| of each of the N images, in order; an image without regions adds 0.

    Returns:
        Scalar.
    """
    distances = (weights**2) * (teacher - student).flatten(start_dim=1).pow(2).sum(dim=1)
    per_image = [d.mean() for d in distances.split(list(counts)) if len(d) > 0]
    # Without regions, the sum of the empty distances is 0 and keeps the student in the graph.
    return (sum(per_image) if per_image else distances.sum()) / (2 * len(counts))


@FEATURE_DISTILLER_REGISTRY.register()
class RoIDistiller(FeatureDistiller):
    """The paper's feature-level transfer: the student's RoI features imitate the teacher's RoI features.

    The student's map is resized to the size of the teacher's map (Psi). RoI pooling gives the features of the same
    regions in both maps, and s' weights their distances. If the maps differ in channels, a 1x1 convolution (an adapter)
    changes the student's map. It is trained together with the student. The authors' release compares features after fc6
    and fc7 of each network instead (``KD.FEATURE.COMPARE: box_head``).
    """

    knowledge_kind: ClassVar[str] = "regions"

    @configurable
    def __init__(
        self, *, pooler_args: dict, resize_to_teacher: bool = True, box_head: nn.Module | None = None, **base_arguments
    ):
        """
        Args:
            pooler_args: ``output_size``, ``sampling_ratio`` and ``pooler_type`` of the teacher's RoI pooling.
            resize_to_teacher: whether to apply Psi.
            box_head: fc6 and fc7 of the student, to compare features after them; None compares pooled features.
            base_arguments: arguments of :class:`FeatureDistiller`; the losses of the pairs are added.
        """
        super().__init__(**base_arguments)
        self.adapters = nn.ModuleList(nn.Identity() if box_head else build_adapter(*shapes) for shapes in self.shapes)
        self.pooler = ROIPooler(scales=(1.0,), **pooler_args)  # boxes are in cells of the map
        self.resize_to_teacher = resize_to_teacher
        # The tuple hides the box head from PyTorch: it belongs to the student and is not trained in stage 1.
        self._box_head = (box_head,)

    @classmethod
    def from_config(cls, cfg: CfgNode, student: nn.Module, teacher_cfg: CfgNode) -> dict:
        """Return the arguments from ``KD``, the student and the teacher's configuration."""
        compares_vectors = cfg.KD.FEATURE.COMPARE == "box_head"
        box_head = student.head.fully_connected if compares_vectors else None
        if compares_vectors:
            teacher, fc_dim = teacher_cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.CLASSIFIER.FC_DIM
            found = teacher.NAME, teacher.POOLER_RESOLUTION, teacher.FC_DIM, teacher_cfg.MODEL.WSDDN.FEATURE_NORM
            if cfg.KD.PREDICTION.FEATURE_LOSS:  # only the student's fc6 and fc7 would have dropout
                raise InputError("KD.FEATURE.COMPARE box_head is for stage 1; set KD.PREDICTION.FEATURE_LOSS False")
            if box_head is None or found != ("VGGBoxHead", 7, fc_dim, 0):
                raise InputError(
                    "KD.FEATURE.COMPARE box_head: the student needs MODEL.CLASSIFIER.POOLING fc, and the teacher needs "
                    f"MODEL.ROI_BOX_HEAD.NAME VGGBoxHead, POOLER_RESOLUTION 7, FC_DIM {fc_dim} and "
                    f"MODEL.WSDDN.FEATURE_NORM 0 (it has {found}); change them, or compare pooled features"
                )
            # fc6 of each network fits only the map that it was trained on.
            pair = f"{teacher_cfg.MODEL.ROI_HEADS.IN_FEATURES[0]}:{student.head.in_feature}"
            if list(cfg.KD.FEATURE.LAYERS) != [pair]:
                raise InputError(
                    f"KD.FEATURE.LAYERS {cfg.KD.FEATURE.LAYERS}: KD.FEATURE.COMPARE box_head needs ('{pair}',)"
                )
        return super().from_config(cfg, student, teacher_cfg) | {
            "pooler_args": pooler_arguments(teacher_cfg),
            "resize_to_teacher": cfg.KD.FEATURE.RESIZE_TO_TEACHER,
            "box_head": box_head,
        }

    def forward(
        self,
        features: dict[str, torch.Tensor],
        image_size: tuple[int, int],
        knowledge: Sequence[TeacherKnowledge],
        targets: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return L_f, summed over the layer pairs, times ``loss_weight``; see :class:`FeatureDistiller`."""
        boxes = [k.boxes for k in knowledge]
        counts = [len(b) for b in boxes]
        weights = torch.cat([k.region_weights for k in knowledge])
        (box_head,) = self._box_head
        total = weights.new_zeros(())
        for (teacher_layer, student_layer), adapter in zip(self.pairs, self.adapters, strict=True):
            # Pool in float32, because poolers round boxes to the dtype of the map.
            feature_map = adapter(features[student_layer]).float()
            if self.resize_to_teacher:  # Psi
                size = knowledge[0].map_sizes[teacher_layer]
                feature_map = F.interpolate(feature_map, size=size, mode="bilinear", align_corners=False)
            height, width = feature_map.shape[-2:]
            scale = feature_map.new_tensor([width / image_size[1], height / image_size[0]] * 2)
            student = self.pooler([feature_map], [Boxes(b * scale) for b in boxes])
            if box_head is not None:
                proposal_weights = torch.cat([k.proposal_weights for k in knowledge])
                student = box_head(student * proposal_weights[:, None, None, None]).float()
            # Features from the cache are float16. Autocast to bfloat16 cannot concatenate them.
            teacher = torch.cat([k.features[teacher_layer].float() for k in knowledge])
            total = total + roi_feature_loss(teacher, student, weights, counts)
        return self.loss_weight * total
