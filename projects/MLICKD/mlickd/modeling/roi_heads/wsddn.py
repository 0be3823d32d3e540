"""The multiple-instance heads of WSDDN (Bilen & Vedaldi 2016): image labels supervise regions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.distributed as dist
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY, build_box_head
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from torch import nn
from torch.nn import functional as F

from mlickd.errors import InputError
from mlickd.modeling.losses import build_label_loss, multilabel_bce, wsddn_loss


def region_scores(class_logits: torch.Tensor, detection_logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Compute the scores of the regions of one image for each class.

    The class stream predicts the class of a region (softmax over the classes). The detection stream predicts the
    regions of a class (softmax over the regions). The score is the product of both.

    Args:
        class_logits, detection_logits: (R, C), for all regions of one image.
        temperature: divisor of the logits of both streams; values below 1 make the scores sharper.

    Returns:
        (R, C); every column sums to an image score of at most 1.
    """
    classes = (class_logits / temperature).softmax(dim=1)
    regions = (detection_logits / temperature).softmax(dim=0)
    return classes * regions


def normalize_features(features: torch.Tensor, norm: float) -> torch.Tensor:
    """Return ``sign(x) * sqrt(|x|)``, scaled so that the mean of these vectors over H and W has a given L2 norm.

    Perronnin, Sanchez and Mensink, "Improving the Fisher Kernel for Large-Scale Image Classification" (ECCV 2010).

    Args:
        features: (N, D, H, W) maps, or (N, D) features of regions.
        norm: norm of the mean; 0 returns the features unchanged.
    """
    if not norm:
        return features
    roots = features.sign() * (features.abs() + 1e-6).sqrt()  # the sum keeps the gradient finite
    means = roots.flatten(2).mean(dim=2) if features.dim() > 2 else roots
    return roots * (norm / means.norm(dim=1).clamp(min=1e-6)).view(-1, *[1] * (features.dim() - 1))


def mix_with_context(
    stream_scores: torch.Tensor, context_map: torch.Tensor, weight: float | torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Mix the image scores of the two streams with the context classifier's scores, which depend on the whole view.

    Args:
        stream_scores: (..., C), the sums of the region scores.
        context_map: (..., C, H, W) logits of the context classifier at each cell; the logit of a view is their mean.
        weight: w, the weight of the context score; 1 for a view without regions, whose ``stream_scores`` are 0.
        temperature: divisor of the logit of the context.

    Returns:
        (..., C) probabilities, ``(1 - w) * stream_scores + w * sigmoid(context)``.
    """
    context = context_map.float().mean(dim=(-2, -1)) / temperature
    return (1 - weight) * stream_scores + weight * context.sigmoid()


def pooler_arguments(cfg: CfgNode) -> dict:
    """Return the arguments of the teacher's RoI pooling, which also pools the regions of the student."""
    head = cfg.MODEL.ROI_BOX_HEAD
    return {
        "output_size": head.POOLER_RESOLUTION,
        "sampling_ratio": head.POOLER_SAMPLING_RATIO,
        "pooler_type": head.POOLER_TYPE,
    }


@dataclass
class RegionPredictions:
    """The outputs of the heads for all M regions of a batch of N images.

    Attributes:
        embeddings: (M, E) inputs of both streams: outputs of the box head for the weighted features, normalized if
            ``feature_norm`` is above 0.
        class_logits: (M, C) outputs of the class stream.
        detection_logits: (M, C) outputs of the detection stream.
        counts: number of regions of each image, in order.
        context_maps: (N, C, H, W) logits of the context classifier at each cell; None without a context classifier.
        context_weight: see :func:`mix_with_context`.
    """

    embeddings: torch.Tensor
    class_logits: torch.Tensor
    detection_logits: torch.Tensor
    counts: list[int]
    context_maps: torch.Tensor | None = None
    context_weight: float = 0.0

    def scores(self) -> list[torch.Tensor]:
        """Return the region scores of each image, (R, C); see :func:`region_scores`."""
        streams = zip(self.class_logits.split(self.counts), self.detection_logits.split(self.counts), strict=True)
        return [region_scores(*logits) for logits in streams]

    def stream_scores(self) -> torch.Tensor:
        """Return the image scores (N, C) of the two streams, in [0, 1]: the sums of the region scores."""
        return torch.stack([scores.sum(dim=0) for scores in self.scores()])

    def image_scores(self) -> torch.Tensor:
        """Return the image scores (N, C) in [0, 1]: :meth:`stream_scores`, mixed with the context if there is one."""
        scores = self.stream_scores()
        if self.context_maps is None:
            return scores
        weights = scores.new_tensor([self.context_weight if count else 1.0 for count in self.counts])
        return mix_with_context(scores, self.context_maps, weights[:, None])


@ROI_HEADS_REGISTRY.register()
class WSDDNHeads(nn.Module):
    """RoI pooling, proposal score weighting, a box head, and the two streams.

    The teacher of the paper pools the last feature map in every proposal, multiplies the result by the proposal's
    score, and passes it through fc6 and fc7 to two linear layers with C outputs.

    The context classifier, an option of this project, is a linear classifier of the mean of the feature map with a
    separate label loss. It sees the whole view, so it learns from the surroundings of objects. Regions and their scores
    come from the two streams only. Normalized features share a large mean, which slows convergence, so the context
    classifier subtracts the running mean of its training features.

    Attributes:
        scores_from_streams: whether ``detection_scores`` returns :func:`region_scores`, which depend on all regions of
            the image.
    """

    scores_from_streams: ClassVar[bool] = True

    @configurable
    def __init__(
        self,
        *,
        in_feature: str,
        pooler: ROIPooler,
        box_head: nn.Module,
        num_classes: int,
        score_weighting: str = "score",
        init_std: float = 0.01,
        context_weight: float = 0.0,
        context_channels: int = 0,
        context_loss: Callable = multilabel_bce,
        feature_norm: float = 0.0,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.4,
        test_topk_per_image: int = 100,
    ):
        """
        Args:
            in_feature: name of the backbone's map from which regions are pooled.
            pooler: pooler of this map.
            box_head: module from (M, D, P, P) to (M, E), with ``output_shape``.
            num_classes: C.
            score_weighting: factor on the pooled features of a proposal: its ``score``, or ``none`` (1).
            init_std: standard deviation of the initial weights of the streams and the context classifier.
            context_weight: w of :func:`mix_with_context`; 0 builds no context classifier.
            context_channels: D, the number of channels of ``in_feature``; needed for a context classifier.
            context_loss: label loss of the context classifier, a function of logits and targets.
            feature_norm: norm of the inputs of all linear layers, see :func:`normalize_features`; 0 neither normalizes
                nor centers features.
            test_score_thresh, test_nms_thresh, test_topk_per_image: limits on the detections at inference.
        """
        super().__init__()
        if score_weighting not in ("score", "none"):
            raise InputError(f"MODEL.WSDDN.SCORE_WEIGHTING {score_weighting!r}: choose score or none")
        self.in_feature = in_feature
        self.pooler = pooler
        self.box_head = box_head
        self.class_stream = nn.Linear(box_head.output_shape.channels, num_classes)
        self.detection_stream = nn.Linear(box_head.output_shape.channels, num_classes)
        self.context_weight = context_weight
        self.context_loss = context_loss
        self.feature_norm = feature_norm
        last_layers = [self.class_stream, self.detection_stream]
        self.context_classifier = None
        if context_weight > 0:
            self.context_classifier = nn.Linear(context_channels, num_classes)
            last_layers.append(self.context_classifier)
            if feature_norm:
                self.register_buffer("context_mean", torch.zeros(context_channels))
                self.register_buffer("context_batches", torch.tensor(0))
        for layer in last_layers:
            nn.init.normal_(layer.weight, std=init_std)
            nn.init.zeros_(layer.bias)
        self.score_weighting = score_weighting
        self.test_score_thresh = test_score_thresh
        self.test_nms_thresh = test_nms_thresh
        self.test_topk_per_image = test_topk_per_image

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Return arguments from ``MODEL.ROI_HEADS``, ``ROI_BOX_HEAD`` and ``WSDDN``."""
        if len(cfg.MODEL.ROI_HEADS.IN_FEATURES) != 1 or cfg.MODEL.ROI_HEADS.IN_FEATURES[0] not in input_shape:
            raise InputError(
                f"MODEL.ROI_HEADS.IN_FEATURES {list(cfg.MODEL.ROI_HEADS.IN_FEATURES)} must be one feature map of "
                f"the backbone; choose one of {', '.join(input_shape)}"
            )
        in_feature = cfg.MODEL.ROI_HEADS.IN_FEATURES[0]
        resolution = cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION
        shape = input_shape[in_feature]
        pooled_shape = ShapeSpec(channels=shape.channels, height=resolution, width=resolution)
        return {
            "in_feature": in_feature,
            "pooler": ROIPooler(scales=(1.0 / shape.stride,), **pooler_arguments(cfg)),
            "box_head": build_box_head(cfg, pooled_shape),
            "num_classes": cfg.MODEL.NUM_CLASSES,
            "score_weighting": cfg.MODEL.WSDDN.SCORE_WEIGHTING,
            "init_std": cfg.MODEL.WSDDN.INIT_STD,
            "context_weight": cfg.MODEL.WSDDN.CONTEXT,
            "context_channels": shape.channels,
            "context_loss": build_label_loss(cfg),
            "feature_norm": cfg.MODEL.WSDDN.FEATURE_NORM,
            "test_score_thresh": cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
            "test_nms_thresh": cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    def predict_regions(self, features: dict[str, torch.Tensor], proposals: list[Instances]) -> RegionPredictions:
        """Pool the proposals of each image and run both streams on them.

        Proposals have ``proposal_boxes``, in pixels of the view, and ``objectness``.
        """
        # In mixed precision, poolers would round boxes to the type of the map, and a softmax over many regions would
        # lose precision.
        feature_map = features[self.in_feature].float()
        pooled = self.pooler([feature_map], [p.proposal_boxes for p in proposals])
        embeddings = self.box_head(pooled * self.proposal_weights(proposals)[:, None, None, None])
        embeddings = normalize_features(embeddings, self.feature_norm)
        return RegionPredictions(
            embeddings=embeddings,
            class_logits=self.class_stream(embeddings).float(),
            detection_logits=self.detection_stream(embeddings).float(),
            counts=[len(p) for p in proposals],
            context_maps=self._context_maps(feature_map),
            context_weight=self.context_weight,
        )

    def _context_maps(self, feature_map: torch.Tensor) -> torch.Tensor | None:
        if self.context_classifier is None:
            return None
        weight, bias = self.context_classifier.weight, self.context_classifier.bias
        features = normalize_features(feature_map, self.feature_norm)
        if self.feature_norm:
            if self.training:
                mean = features.detach().mean(dim=(0, 2, 3))
                if comm.get_world_size() > 1:  # processes must subtract and save the same mean
                    dist.all_reduce(mean)
                    mean /= comm.get_world_size()
                self.context_batches += 1
                self.context_mean += (mean - self.context_mean) / self.context_batches
            # In float32, before mixed precision rounds the features, because the mean is much larger than the rest.
            features = features - self.context_mean[:, None, None]
        return F.conv2d(features, weight[:, :, None, None], bias).float()

    def proposal_weights(self, proposals: list[Instances]) -> torch.Tensor:
        """Return the factors (M,) on the pooled features of the proposals; see ``score_weighting``."""
        scores = torch.cat([p.objectness for p in proposals])
        return scores if self.score_weighting == "score" else torch.ones_like(scores)

    def losses(
        self, predictions: RegionPredictions, proposals: list[Instances], targets: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the training losses by name for image labels ``targets`` (N, C)."""
        losses = {"loss_image": wsddn_loss(predictions.stream_scores(), targets)}
        if predictions.context_maps is not None:
            losses["loss_context"] = self.context_loss(predictions.context_maps.mean(dim=(2, 3)), targets)
        return losses

    def detection_scores(self, predictions: RegionPredictions) -> list[torch.Tensor]:
        """Return the scores (R, C) of each image, which select its detections and the regions for a student."""
        return predictions.scores()

    def detect(self, boxes: Boxes, scores: torch.Tensor, image_size: tuple[int, int]) -> Instances:
        """Return the detections of one image: non-maximum suppression per class, then the best of all classes.

        Args:
            boxes, scores: R proposals and their (R, C) region scores.
            image_size: height and width of the view.

        Returns:
            Instances with ``pred_boxes``, ``scores`` and ``pred_classes``, best first.
        """
        with_background = F.pad(scores, (0, 1))  # Detectron2 ignores the last class
        rule = (self.test_score_thresh, self.test_nms_thresh, self.test_topk_per_image)
        return fast_rcnn_inference_single_image(boxes.tensor, with_background, image_size, *rule)[0]
