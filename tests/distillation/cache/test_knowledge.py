"""The cache says what the live teacher says, and of a crop what the regions in it say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers.cached_scenes import CachedScenes, samples, write_random_boxes
from helpers.small_models import save_teacher, teacher_config
from mlickd.data import ProposalStore, View, dataset_records, write_store
from mlickd.data.build import build_mapper
from mlickd.data.catalog import class_names
from mlickd.distillation import FrozenTeacher, KnowledgeRequest, LiveTeacher
from mlickd.distillation.cache import CachedKnowledge
from mlickd.distillation.teacher import load_teacher_config
from mlickd.engine.caching import make_cache
from mlickd.errors import InputError

BOX_HEAD = ["KD.FEATURE.COMPARE", "box_head", "MODEL.CLASSIFIER.POOLING", "fc", "MODEL.CLASSIFIER.FC_DIM", 16]
FITNETS = ["KD.FEATURE.DISTILLER", "FitNetsDistiller"]
ATTENTION = ["KD.FEATURE.DISTILLER", "AttentionTransferDistiller"]
BESIDE_LABELS = ["KD.METHOD_STAGES", ("prediction",), "KD.PREDICTION.FEATURE_LOSS", True]
EMBEDDINGS = ["KD.FEATURE.DISTILLER", "LabelEmbeddingDistiller", "MODEL.CLASSIFIER.POOLING", "max", *BESIDE_LABELS]
# Far below what leaving out a region, or one wrong weight, would make.
HALF = {"rtol": 2e-3, "atol": 1e-5}


def losses(cfg, views, source) -> dict[str, torch.Tensor]:
    batch = samples(cfg, views)
    for sample, knowledge in zip(batch, source(batch), strict=True):
        sample["knowledge"] = knowledge
    torch.manual_seed(0)
    return build_model(cfg)(batch)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("feature", []),
        ("feature", ["KD.REGIONS.WEIGHT", "proposal", "KD.REGIONS.TOP_K", 0, "KD.REGIONS.NMS_THRESH", 1.0, *BOX_HEAD]),
        ("feature", FITNETS),
        ("feature", ATTENTION),
        ("prediction", [*ATTENTION, *BESIDE_LABELS]),
        ("prediction", EMBEDDINGS),
        ("prediction", []),
        ("feature", ["KD.TEACHER.FLIP", True]),
        ("prediction", ["KD.TEACHER.FLIP", True]),
        ("prediction", ["KD.PREDICTION.TEACHER_TEMPERATURE", 0.5, "KD.PREDICTION.LOSS", "bce"]),
    ],
)
def test_losses_are_those_of_the_live_teacher(scenes: CachedScenes, tmp_path: Path, stage, options, mirror) -> None:
    cache = scenes.make(str(tmp_path), *options, mirrored=mirror)
    views = [(3, View(32, mirror)), (0, View(32)), (17, View(32, mirror)), (3, View(32))]
    live_cfg, cached_cfg = scenes.config(stage, "", *options), scenes.config(stage, cache, *options)
    live = losses(live_cfg, views, LiveTeacher(live_cfg))
    cached = losses(cached_cfg, views, CachedKnowledge(cached_cfg))
    assert live.keys() == cached.keys()
    for name, loss in live.items():
        assert loss.item() > 0
        torch.testing.assert_close(cached[name], loss, **HALF)


def test_knowledge_is_that_of_the_live_teacher(scenes: CachedScenes, plain: Path) -> None:
    views = [(index, View(40)) for index in range(8)]
    live_cfg, cached_cfg = scenes.config("feature"), scenes.config("feature", plain)
    live_batch, cached_batch = samples(live_cfg, views), samples(cached_cfg, views)
    assert "teacher_image" not in cached_batch[0] and "proposals" not in cached_batch[0]
    live, cached = LiveTeacher(live_cfg)(live_batch), CachedKnowledge(cached_cfg)(cached_batch)
    for ours, theirs, a, b in zip(cached, live, cached_batch, live_batch, strict=True):
        assert torch.equal(a["image"], b["image"])
        torch.testing.assert_close(ours.boxes, theirs.boxes)
        torch.testing.assert_close(ours.weights, theirs.weights)
        torch.testing.assert_close(ours.image_scores, theirs.image_scores, **HALF)
        torch.testing.assert_close(ours.features["conv5"].float(), theirs.features["conv5"], **HALF)
        assert ours.map_sizes == theirs.map_sizes


def test_a_cache_holds_what_several_methods_ask_for_and_a_run_reads_its_own(
    scenes: CachedScenes, tmp_path: Path
) -> None:
    methods = [[], FITNETS, ATTENTION]
    requests = [KnowledgeRequest.of_method(scenes.config("feature", "", *options)) for options in methods]
    cfg = scenes.config("feature", tmp_path / "all")
    make_cache(cfg, requests[0] | requests[1] | requests[2], mirrored=False)
    views = [(3, View(32)), (0, View(32))]
    for options in methods:
        live_cfg, cached_cfg = (
            scenes.config("feature", "", *options),
            scenes.config("feature", tmp_path / "all", *options),
        )
        (live, _), (cached, _) = (
            source(samples(cfg, views))
            for source, cfg in ((LiveTeacher(live_cfg), live_cfg), (CachedKnowledge(cached_cfg), cached_cfg))
        )
        assert live.maps.keys() == cached.maps.keys() and live.features.keys() == cached.features.keys()
        for key, of_view in live.maps.items():
            torch.testing.assert_close(cached.maps[key].float(), of_view, **HALF)
    scenes_alone = scenes.make(str(tmp_path / "regions"), mirrored=False)
    with pytest.raises(
        InputError, match=r"made with other maps of the teacher \(features.conv5 None, not \[51, 4, 4\]\)"
    ):
        CachedKnowledge(scenes.config("feature", scenes_alone, *FITNETS))


def test_a_crop_sees_its_part_of_a_map(scenes: CachedScenes, tmp_path: Path) -> None:
    """Against a bilinear sample at the center of each cell of the crop, mirrored or not."""
    cfg = scenes.config("feature", tmp_path / "cache", *FITNETS)
    make_cache(cfg, KnowledgeRequest.of_method(cfg), mirrored=True)
    left, top, right, bottom = crop = (0.25, 0.0, 1.0, 0.5)
    source = CachedKnowledge(cfg)
    key = ("features", "conv5")
    for mirror in (False, True):
        (whole, part) = source(samples(cfg, [(2, View(32, mirror)), (2, View(32, mirror, crop))]))
        height, width = whole.maps[key].shape[-2:]
        x0, x1 = (1 - right, 1 - left) if mirror else (left, right)
        columns = (x0 + (np.arange(width) + 0.5) / width * (x1 - x0)) * width - 0.5
        rows = (top + (np.arange(height) + 0.5) / height * (bottom - top)) * height - 0.5
        values = whole.maps[key].float().numpy()
        expected = interpolate(interpolate(values, rows, axis=1), columns, axis=2)
        np.testing.assert_allclose(part.maps[key].float().numpy(), expected, rtol=5e-3, atol=5e-3)


def interpolate(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Linear along one axis, constant beyond its ends."""
    along = np.arange(values.shape[axis])
    return np.apply_along_axis(lambda line: np.interp(places, along, line), axis, values)


def test_mirrored_views_of_a_network_that_pads_one_side_more_are_those_of_the_live_teacher(
    scenes: CachedScenes, tmp_path: Path
) -> None:
    """TensorFlow's SAME padding shifts the grid of the map: flipped features would be of other places."""
    cfg = teacher_config()
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "tf_efficientnet_lite0"])
    cfg.merge_from_list(["MODEL.TIMM.OUT_FEATURES", ("stride16",), "MODEL.ROI_HEADS.IN_FEATURES", ["stride16"]])
    cfg.merge_from_list(["MODEL.NUM_CLASSES", 20, "MODEL.WSDDN.INIT_STD", 2.0])
    options = ["KD.TEACHER.WEIGHTS", str(save_teacher(tmp_path, cfg)), "KD.FEATURE.LAYERS", ("stride16:conv5",)]
    # All regions, in the order of the proposals: which ones are chosen does not hang on a rounding.
    options += ["KD.REGIONS.WEIGHT", "proposal", "KD.REGIONS.TOP_K", 0, "KD.REGIONS.NMS_THRESH", 1.0]
    views = [(index, View(32, mirror=True)) for index in range(4)]
    live_cfg = scenes.config("feature", "", *options)
    live = LiveTeacher(live_cfg)(samples(live_cfg, views))
    errors = {}
    for mirrored in (True, False):
        cached_cfg = scenes.config("feature", scenes.make(str(tmp_path / str(mirrored)), *options, mirrored=mirrored))
        cached_cfg.merge_from_list(options)
        cached = CachedKnowledge(cached_cfg)(samples(cached_cfg, views))
        pairs = [(a.features["stride16"].float(), b.features["stride16"]) for a, b in zip(cached, live, strict=True)]
        errors[mirrored] = max(((ours - theirs).norm() / theirs.norm()).item() for ours, theirs in pairs)
        if mirrored:
            for ours, theirs in zip(cached, live, strict=True):
                torch.testing.assert_close(ours.image_scores, theirs.image_scores, rtol=5e-3, atol=1e-5)
    assert errors[True] < 1e-3  # 16 bits have 11 digits
    assert errors[False] > 0.05


def test_a_crop_of_refined_scores_keeps_the_weights_of_its_regions(scenes: CachedScenes, tmp_path: Path) -> None:
    """OICR scores each region by itself: which others are in view changes nothing."""
    cfg = teacher_config()
    cfg.merge_from_list(["MODEL.NUM_CLASSES", 20, "MODEL.WSDDN.INIT_STD", 2.0, "MODEL.ROI_HEADS.NAME", "OICRHeads"])
    options = ["KD.TEACHER.WEIGHTS", str(save_teacher(tmp_path, cfg)), "KD.REGIONS.NORMALIZE_WEIGHT", False]
    cached_cfg = scenes.config("feature", scenes.make(str(tmp_path / "cache"), *options), *options)
    crop = View(32, crop=(0.0, 0.0, 0.8, 0.8))
    batch = samples(cached_cfg, [(index, view) for index in range(8) for view in (View(32), crop)])
    found = CachedKnowledge(cached_cfg)(batch)
    fewer = 0
    for whole, part in zip(found[::2], found[1::2], strict=True):
        assert set(part.weights.tolist()) <= set(whole.weights.tolist())
        fewer += 0 < len(part.weights) < len(whole.weights)
    assert fewer > 0


def test_boxes_of_a_turned_photo_land_where_the_live_teacher_has_them(scenes: CachedScenes, tmp_path: Path) -> None:
    """Its record has the size before it is turned, as some annotation files do."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    record = {"file_name": str(tmp_path / "turned.jpg"), "image_id": "turned", "labels": [0], "height": 40, "width": 80}
    DatasetCatalog.register("turned_train", lambda: [record])
    try:
        MetadataCatalog.get("turned_train").thing_classes = class_names("tiny_train")
        boxes = np.array([[2, 3, 20, 30], [10, 5, 38, 39]], np.float32)
        scores = np.array([0.9, 0.4], np.float32)
        write_store(tmp_path / "boxes", [("turned", boxes, scores)], method="random", parameters={}, image_digest="")
        options = ["DATASETS.TRAIN", ("turned_train",), "DATASETS.TEST", ("turned_train",)]
        options += ["DATASETS.PROPOSALS.TRAIN_FILES", (str(tmp_path / "boxes"),)]
        options += ["KD.REGIONS.NMS_THRESH", 1.0, "SOLVER.IMS_PER_BATCH", 1]
        live_cfg = scenes.config("feature", "", *options)
        cached_cfg = scenes.config("feature", scenes.make(str(tmp_path / "cache"), *options), *options)
        (live,) = LiveTeacher(live_cfg)(samples(live_cfg, [(0, View(32))]))
        (cached,) = CachedKnowledge(cached_cfg)(samples(cached_cfg, [(0, View(32))]))
    finally:
        DatasetCatalog.remove("turned_train")
        MetadataCatalog.remove("turned_train")
    torch.testing.assert_close(cached.boxes, live.boxes)
    torch.testing.assert_close(cached.image_scores, live.image_scores, **HALF)


def teacher_of(scenes: CachedScenes, index: int):
    """What the teacher says of a whole image, as arrays; its boxes and its record."""
    cfg = scenes.config("feature")
    record = dataset_records("tiny_train")[index]
    mapper = build_mapper(load_teacher_config(cfg), "tiny_train", ProposalStore.open(scenes.proposals))
    sample = mapper(record, View(64))
    (known,) = FrozenTeacher(cfg, KnowledgeRequest.of_stage(cfg))([sample["image"]], [sample["proposals"]])
    return known, ProposalStore.open(scenes.proposals)[record["image_id"]][0], record


def softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


corners = st.tuples(st.floats(0, 0.6), st.floats(0, 0.6), st.floats(0.3, 1), st.floats(0.3, 1))


@pytest.fixture(scope="module")
def words(scenes: CachedScenes) -> list:
    return [teacher_of(scenes, index) for index in range(3)]


@pytest.fixture(scope="module")
def cached(scenes: CachedScenes, plain: Path) -> CachedKnowledge:
    return CachedKnowledge(scenes.config("feature", plain))


@given(corners, st.booleans(), st.integers(0, 2))
def test_a_crop_is_scored_by_the_regions_in_it(cached: CachedKnowledge, words: list, corner, mirror, index) -> None:
    x, y, w, h = corner
    view = View(32, mirror, crop=(x, y, min(x + w, 1), min(y + h, 1)))
    known, boxes, record = words[index]
    (knowledge,) = cached([{"dataset": "tiny_train", "image_id": record["image_id"], "view": view}])

    # In NumPy: which boxes are seen by three quarters and more, and both softmaxes over these.
    x0, y0, x1, y1 = view.crop_in_pixels(record["height"], record["width"])
    width = np.minimum(boxes[:, 2], x1) - np.maximum(boxes[:, 0], x0)
    height = np.minimum(boxes[:, 3], y1) - np.maximum(boxes[:, 1], y0)
    whole = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    seen = np.flatnonzero(width.clip(0) * height.clip(0) >= 0.75 * whole)
    chosen = [i for i in known.selected.tolist() if i in seen]
    assert len(knowledge.boxes) == len(knowledge.weights) == len(knowledge.features["conv5"]) == len(chosen)
    if len(seen) == 0:
        assert knowledge.image_scores is None
        return
    scores = softmax(known.class_logits.numpy()[seen], 1) * softmax(known.detection_logits.numpy()[seen], 0)
    np.testing.assert_allclose(knowledge.image_scores, scores.sum(axis=0), rtol=5e-3, atol=1e-5)
    if not chosen:
        return
    weights = scores.max(axis=1)[[int(np.flatnonzero(seen == i)[0]) for i in chosen]]
    np.testing.assert_allclose(knowledge.weights, weights / weights.max(), rtol=5e-3, atol=1e-5)
    features = known.features["conv5"][[known.selected.tolist().index(i) for i in chosen]]
    if mirror:
        features = features.flip(-1)
    torch.testing.assert_close(knowledge.features["conv5"].float(), features.clone(), **HALF)
    scale = np.array([32 / (x1 - x0), 32 / (y1 - y0)] * 2)
    expected = ((boxes[chosen] - [x0, y0, x0, y0]) * scale).clip(0, 32)
    if mirror:
        expected = np.stack([32 - expected[:, 2], expected[:, 1], 32 - expected[:, 0], expected[:, 3]], axis=1)
    np.testing.assert_allclose(knowledge.boxes, expected, atol=1e-3)


def test_vectors_of_a_mirrored_view_stay_as_they_are_unless_it_is_stored(scenes: CachedScenes, tmp_path: Path) -> None:
    found = {}
    for mirrored in (False, True):
        cache = scenes.make(str(tmp_path / str(mirrored)), *BOX_HEAD, mirrored=mirrored)
        cfg = scenes.config("feature", cache, *BOX_HEAD)
        found[mirrored] = CachedKnowledge(cfg)(samples(cfg, [(5, View(32)), (5, View(32, mirror=True))]))
    straight, mirrored = (knowledge.features["conv5"] for knowledge in found[False])
    assert torch.equal(straight, mirrored)
    assert torch.equal(straight, found[True][0].features["conv5"])
    other = found[True][1].features["conv5"]
    assert other.shape != straight.shape or not torch.equal(straight, other)


@pytest.mark.parametrize("stage", ["feature", "prediction"])
def test_a_view_without_regions_says_nothing(scenes: CachedScenes, plain: Path, stage: str) -> None:
    empty, full = (4, View(32, crop=(0.0, 0.0, 0.02, 0.02))), (5, View(32))
    cached, live = scenes.config(stage, plain), scenes.config(stage)
    for cfg, source in ((cached, CachedKnowledge(cached)), (live, LiveTeacher(live))):
        batch = samples(cfg, [empty, full])
        knowledge = source(batch)
        assert knowledge[0].image_scores is None and knowledge[1].image_scores is not None
        name = "loss_feature" if stage == "feature" else "loss_soft_label"
        both = losses(cfg, [empty, full], source)[name]
        torch.testing.assert_close(both, losses(cfg, [full], source)[name] / 2)
        alone = losses(cfg, [empty, empty], source)
        assert alone[name].item() == 0
        sum(alone.values()).backward()  # a batch of nothing must not stop training


def test_each_data_set_has_its_own_knowledge(scenes: CachedScenes, tmp_path: Path, monkeypatch) -> None:
    """A copy has the same image ids with other proposals."""
    root = tmp_path / "datasets"
    root.mkdir()
    source = Path(dataset_records("tiny_train")[0]["file_name"]).parents[1]
    for name in ("tiny", "twin"):
        (root / name).symlink_to(source)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    write_random_boxes(tmp_path / "twin", "twin_train", seed=2)
    options = ["DATASETS.TRAIN", ("tiny_train", "twin_train")]
    options += ["DATASETS.PROPOSALS.TRAIN_FILES", (str(scenes.proposals), str(tmp_path / "twin"))]
    cache = scenes.make(str(tmp_path / "cache"), *options)
    cfg = scenes.config("prediction", cache, *options)
    batch = samples(cfg, [(2, View(32)), (26, View(32))])
    assert batch[0]["image_id"] == batch[1]["image_id"] and torch.equal(batch[0]["image"], batch[1]["image"])
    cached = CachedKnowledge(cfg)(batch)
    live_cfg = scenes.config("prediction", "", *options)
    live = LiveTeacher(live_cfg)(samples(live_cfg, [(2, View(32)), (26, View(32))]))
    for ours, theirs in zip(cached, live, strict=True):
        torch.testing.assert_close(ours.image_scores, theirs.image_scores, **HALF)
    assert not torch.allclose(cached[0].image_scores, cached[1].image_scores, **HALF)
