"""The teacher's outputs for every training image, on disk.

``KD.CACHE/<dataset>/`` has one shard (see :mod:`mlickd.tensor_shards`) for every 64 images, in the order of the image
ids as text. The metadata of a shard are ``settings`` (see :func:`cache_settings`) and ``ids``. The tensors of a shard
with N images and M regions::

    image_sizes       int32 (N, 2)     height and width in pixels
    region_offsets    int64 (N + 1,)   start of the regions of each image
    boxes             float32 (M, 4)   x0, y0, x1, y1 in pixels of the image
    map_sizes.LAYER   int32 (N, 2)     height and width of the teacher's map; only with features of regions

Each ``VIEW`` of the whole image at the teacher's size, ``original`` and optionally ``mirrored``, has the tensors::

    VIEW.class_logits                          float16 (M, C)   logits; the largest of each region is shifted to 0
    VIEW.detection_logits                      float16 (M, C)   logits; the largest of each class and image is 0
    VIEW.selected_offsets                      int64 (N + 1,)   start of R' of each image; S regions in total
    VIEW.selected                              int32 (S,)       index of the region in its image
    VIEW.region_weights, VIEW.proposal_weights float32 (S,)     s', and multipliers before the box head
    VIEW.features.LAYER                        float16 (S, ...) pooled maps, or vectors after the box head
    VIEW.maps.KIND.LAYER                       float16 (N, ...) whole maps (D, H, W)
    VIEW.context_map                           float16 (N, ...) context logits (C, H, W), with MODEL.WSDDN.CONTEXT

A softmax does not depend on the shift of its logits, and float16 is most precise near 0, where the large probabilities
are.
"""

from .making import make_cache
from .reading import CachedKnowledge, check_cache

__all__ = ["CachedKnowledge", "check_cache", "make_cache"]
