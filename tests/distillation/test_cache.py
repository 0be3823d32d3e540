"""The cache gives the same knowledge as the live teacher, and in a crop the knowledge of the regions in view."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.special import softmax

from helpers.cached_scenes import CachedScenes, samples, scenes_teacher_config, write_random_boxes
from helpers.small_models import save_teacher, tensors_of
from mlickd.data import ProposalStore, View, dataset_records
from mlickd.data.build import build_mapper, needs_proposals
from mlickd.distillation import FrozenTeacher, KnowledgeRequest, LiveTeacher
from mlickd.distillation.cache import CachedKnowledge, make_cache
from mlickd.distillation.cache.making import _load_views
from mlickd.distillation.teacher_config import load_teacher_config
from mlickd.errors import InputError

BOX_HEAD = ["KD.FEATURE.COMPARE", "box_head", "MODEL.CLASSIFIER.POOLING", "fc", "MODEL.CLASSIFIER.FC_DIM", 16]
ALL_REGIONS = ["KD.REGIONS.WEIGHT", "proposal", "KD.REGIONS.TOP_K", 0, "KD.REGIONS.NMS_THRESH", 1.0]
FLIP = ["KD.TEACHER.FLIP", True]
FITNETS = ["KD.FEATURE.DISTILLER", "FitNetsDistiller"]
ATTENTION = ["KD.FEATURE.DISTILLER", "AttentionTransferDistiller"]
WITH_LABELS = ["KD.METHOD_STAGES", ("prediction",), "KD.PREDICTION.FEATURE_LOSS", True]
EMBEDDINGS = ["KD.FEATURE.DISTILLER", "LabelEmbeddingDistiller", "MODEL.CLASSIFIER.POOLING", "max", *WITH_LABELS]
# Rounding to 16 bits; a missing region or one wrong weight makes a far larger difference.
HALF = {"rtol": 2e-3, "atol": 1e-5}


def losses(cfg, views, source) -> dict[str, torch.Tensor]:
    batch = samples(cfg, views)
    for sample, knowledge in zip(batch, source(batch), strict=True):
        sample["knowledge"] = knowledge
    torch.manual_seed(0)
    return build_model(cfg)(batch)


@pytest.fixture(scope="module")
def shared(scenes: CachedScenes) -> Path:
    """A cache with the knowledge for several methods, with mirrored views."""
    request = KnowledgeRequest()
    for options in ([], FITNETS, ATTENTION):
        request |= KnowledgeRequest.for_method(scenes.config("feature", "", *options))
    make_cache(scenes.config("feature", scenes.folder / "shared"), request)
    return scenes.folder / "shared"


@pytest.mark.parametrize(
    ("stage", "cache_options", "options"),
    [
        ("feature", [], []),
        ("feature", [], FITNETS),
        ("feature", [], ATTENTION),
        ("prediction", [], [*ATTENTION, *WITH_LABELS]),
        ("prediction", [], EMBEDDINGS),
        ("prediction", [], []),
        ("prediction", [], ["KD.PREDICTION.TEACHER_TEMPERATURE", 0.5, "KD.PREDICTION.LOSS", "bce"]),
        ("feature", [*ALL_REGIONS, *BOX_HEAD, *FLIP], []),
    ],
)
def test_knowledge_and_losses_are_those_of_the_live_teacher(
    scenes, shared: Path, tmp_path: Path, stage: str, cache_options: list, options: list
) -> None:
    """From a cache with the knowledge for several methods, each method reads only the knowledge that it needs."""
    cache = scenes.make(str(tmp_path), *cache_options) if cache_options else shared
    views = [(3, View(32, mirror=True)), (0, View(32)), (17, View(32, mirror=True)), (3, View(32))]
    live_cfg, cached_cfg = (scenes.config(stage, folder, *cache_options, *options) for folder in ("", cache))
    teacher, source = LiveTeacher(live_cfg), CachedKnowledge(cached_cfg)
    batch = samples(cached_cfg, views)
    assert "teacher_image" not in batch[0] and "proposals" not in batch[0]
    for ours, theirs in zip(source(batch), teacher(samples(live_cfg, views)), strict=True):
        assert ours.map_sizes == theirs.map_sizes and ours.maps.keys() == theirs.maps.keys()
        for one, other in zip(tensors_of(ours), tensors_of(theirs), strict=True):
            torch.testing.assert_close(one.float(), other, rtol=1e-2, atol=1e-3)
    live, cached = losses(live_cfg, views, teacher), losses(cached_cfg, views, source)
    assert live.keys() == cached.keys()
    for name, loss in live.items():
        assert loss.item() > 0
        torch.testing.assert_close(cached[name], loss, **HALF)


def test_mirrored_views_of_a_network_with_uneven_padding_are_those_of_the_live_teacher(
    scenes: CachedScenes, tmp_path: Path
) -> None:
    """TensorFlow's SAME padding shifts the grid of the map: flipped features would be of other cells."""
    network = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "tf_efficientnet_lite0"]
    network += ["MODEL.TIMM.OUT_FEATURES", ("stride16",), "MODEL.ROI_HEADS.IN_FEATURES", ["stride16"]]
    teacher = save_teacher(tmp_path, scenes_teacher_config(*network))
    options = ["KD.TEACHER.WEIGHTS", str(teacher), "KD.FEATURE.LAYERS", ("stride16:conv5",), *ALL_REGIONS]
    views = [(index, View(32, mirror=True)) for index in range(4)]
    live_cfg = scenes.config("feature", "", *options)
    live = LiveTeacher(live_cfg)(samples(live_cfg, views))
    cached_cfg = scenes.config("feature", scenes.make(str(tmp_path / "cache"), *options), *options)
    for ours, theirs in zip(CachedKnowledge(cached_cfg)(samples(cached_cfg, views)), live, strict=True):
        error = (ours.features["stride16"].float() - theirs.features["stride16"]).norm()
        assert error < 1e-3 * theirs.features["stride16"].norm()
        torch.testing.assert_close(ours.image_scores, theirs.image_scores, rtol=5e-3, atol=1e-5)


def test_image_sizes_come_from_the_file_not_the_record() -> None:
    """Its record may have the size before the image is turned, as some annotation files do."""
    record = {"image_id": "turned", "height": 40, "width": 80}
    assert _load_views(lambda record, view: record, [View(32)], record) == [{"image_id": "turned"}]


corners = st.tuples(st.floats(0, 0.6), st.floats(0, 0.6), st.floats(0.3, 1), st.floats(0.3, 1))


@pytest.fixture(scope="module")
def outputs(scenes: CachedScenes) -> list:
    """The teacher's knowledge of three whole images, their boxes and records."""
    cfg = scenes.config("feature")
    teacher_cfg, store = load_teacher_config(cfg), ProposalStore(scenes.proposals)
    teacher = FrozenTeacher(cfg, teacher_cfg, KnowledgeRequest.for_stage(cfg))
    mapper = build_mapper(teacher_cfg, "tiny_train", store)
    found = []
    for record in dataset_records("tiny_train")[:3]:
        sample = mapper(record, View(64))
        found.append((*teacher([sample["image"]], [sample["proposals"]]), store[record["image_id"]][0], record))
    return found


@pytest.fixture(scope="module")
def cached(scenes: CachedScenes, plain: Path) -> CachedKnowledge:
    return CachedKnowledge(scenes.config("feature", plain))


@given(corners, st.booleans(), st.integers(0, 2))
def test_a_crop_is_scored_by_the_regions_in_it(cached: CachedKnowledge, outputs: list, corner, mirror, index) -> None:
    x, y, w, h = corner
    view = View(32, mirror, crop=(x, y, min(x + w, 1), min(y + h, 1)))
    known, boxes, record = outputs[index]
    (knowledge,) = cached([{"dataset": "tiny_train", "image_id": record["image_id"], "view": view}])

    # In NumPy: which boxes are at least three quarters in view, and both softmaxes over these.
    x0, y0, x1, y1 = view.crop_in_pixels(record["height"], record["width"])
    width = np.minimum(boxes[:, 2], x1) - np.maximum(boxes[:, 0], x0)
    height = np.minimum(boxes[:, 3], y1) - np.maximum(boxes[:, 1], y0)
    whole = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    seen = np.flatnonzero(width.clip(0) * height.clip(0) >= 0.75 * whole)
    chosen = [i for i in known.selected.tolist() if i in seen]
    assert len(knowledge.boxes) == len(knowledge.region_weights) == len(knowledge.features["conv5"]) == len(chosen)
    if len(seen) == 0:
        assert knowledge.image_scores is None
        return
    scores = softmax(known.class_logits.numpy()[seen], 1) * softmax(known.detection_logits.numpy()[seen], 0)
    np.testing.assert_allclose(knowledge.image_scores, scores.sum(axis=0), rtol=5e-3, atol=1e-5)
    if not chosen:
        return
    weights = scores.max(axis=1)[[int(np.flatnonzero(seen == i)[0]) for i in chosen]]
    np.testing.assert_allclose(knowledge.region_weights, weights / weights.max(), rtol=5e-3, atol=1e-5)
    features = known.features["conv5"][[known.selected.tolist().index(i) for i in chosen]]
    if mirror:
        features = features.flip(-1)
    torch.testing.assert_close(knowledge.features["conv5"].float(), features.clone(), **HALF)
    scale = np.array([32 / (x1 - x0), 32 / (y1 - y0)] * 2)
    moved = (boxes[chosen] - [x0, y0, x0, y0]) * scale
    if mirror:
        moved[:, [0, 2]] = 32 - moved[:, [2, 0]]
    np.testing.assert_allclose(knowledge.boxes, moved.clip(0, 32), atol=1e-3)


def test_a_crop_sees_its_part_of_a_map(scenes: CachedScenes, shared: Path) -> None:
    """Against a bilinear sample at the center of each cell of the crop, mirrored or not."""
    cfg = scenes.config("feature", shared, *FITNETS)
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
        places = np.meshgrid(rows, columns, indexing="ij")
        expected = np.stack([map_coordinates(channel, places, order=1, mode="nearest") for channel in values])
        np.testing.assert_allclose(part.maps[key].float().numpy(), expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize(("weight", "flip"), [(0.25, []), (1.0, FLIP)])
def test_the_context_is_that_of_the_live_teacher_and_of_the_cells_in_a_crop(
    scenes: CachedScenes, tmp_path: Path, weight: float, flip: list
) -> None:
    teacher = save_teacher(tmp_path, scenes_teacher_config("MODEL.WSDDN.CONTEXT", weight))
    options = ["KD.TEACHER.WEIGHTS", str(teacher), *flip]
    live_cfg = scenes.config("prediction", "", *options)
    cached_cfg = scenes.config("prediction", scenes.make(str(tmp_path / "cache"), *options), *options)
    live, cached = LiveTeacher(live_cfg), CachedKnowledge(cached_cfg)
    views = [(index, View(32, mirror)) for index in range(3) for mirror in (False, True)]
    for ours, theirs in zip(cached(samples(cached_cfg, views)), live(samples(live_cfg, views)), strict=True):
        torch.testing.assert_close(ours.image_scores, theirs.image_scores, rtol=5e-3, atol=1e-3)

    corner, nothing = (0.0, 0.25, 0.5, 0.75), (0.0, 0.0, 0.02, 0.02)  # without regions, a view has only a context
    cases = [(View(32, False, corner), slice(0, 2)), (View(32, True, corner), slice(2, 4))] * (weight == 1)
    for view, columns in [*cases, (View(32, crop=nothing), slice(0, 1))]:
        batch = samples(cached_cfg, [(4, view)])
        (knowledge,) = cached(batch)
        _, _, whole = cached.caches["tiny_train"].read(batch[0]["image_id"], mirror=view.mirror)
        assert whole.context_map.shape[-2:] == (4, 4)
        rows = slice(1, 3) if view.crop == corner else slice(0, 1)
        cells = whole.context_map.float()[:, rows, columns]
        torch.testing.assert_close(knowledge.image_scores, cells.mean(dim=(1, 2)).sigmoid(), rtol=1e-4, atol=1e-6)


def test_a_crop_of_refined_scores_keeps_the_weights_of_its_regions(scenes: CachedScenes, tmp_path: Path) -> None:
    """OICR scores each region independently of the other regions in view."""
    teacher = save_teacher(tmp_path, scenes_teacher_config("MODEL.ROI_HEADS.NAME", "OICRHeads"))
    options = ["KD.TEACHER.WEIGHTS", str(teacher)]
    cached_cfg = scenes.config("feature", scenes.make(str(tmp_path / "cache"), *options), *options)
    crop = View(32, crop=(0.0, 0.0, 0.8, 0.8))
    batch = samples(cached_cfg, [(index, view) for index in range(8) for view in (View(32), crop)])
    found = CachedKnowledge(cached_cfg)(batch)
    fewer = 0
    for whole, part in zip(found[::2], found[1::2], strict=True):
        kept = torch.isin(whole.features["conv5"].sum(dim=(1, 2, 3)), part.features["conv5"].sum(dim=(1, 2, 3)))
        expected = whole.region_weights[kept]
        torch.testing.assert_close(part.region_weights, expected / expected.amax() if len(expected) else expected)
        fewer += 0 < len(part.region_weights) < len(whole.region_weights)
    assert fewer > 0


@pytest.mark.parametrize("stage", ["feature", "prediction"])
def test_a_view_without_regions_adds_nothing(scenes: CachedScenes, plain: Path, stage: str) -> None:
    empty, full = (4, View(32, crop=(0.0, 0.0, 0.02, 0.02))), (5, View(32))
    cached, live = scenes.config(stage, plain), scenes.config(stage)
    for cfg, source in ((cached, CachedKnowledge(cached)), (live, LiveTeacher(live))):
        batch = samples(cfg, [empty, full])
        knowledge = source(batch)
        assert knowledge[0].image_scores is None and knowledge[1].image_scores is not None
        name = "loss_feature" if stage == "feature" else "loss_soft_label"
        both = losses(cfg, [empty, full], source)[name]
        torch.testing.assert_close(both, losses(cfg, [full], source)[name] / 2)
        empty_losses = losses(cfg, [empty, empty], source)
        assert empty_losses[name].item() == 0
        sum(empty_losses.values()).backward()


# Stage, other values of the distillation, other values of the teacher, and the key that the message names, if any.
OTHER_RUNS = {
    "teacher's size": ("prediction", [], ["INPUT.SIZE_TEST", 48], "teacher.INPUT.SIZE_TEST 64, not 48"),
    "teacher's heads": ("prediction", [], ["MODEL.WSDDN.SCORE_WEIGHTING", "none"], "teacher.MODEL.WSDDN.SCORE_WEIGHT"),
    "flip": ("prediction", FLIP, [], "KD.TEACHER.FLIP False, not True"),
    "rule of R'": ("feature", ["KD.REGIONS.TOP_K", 7], [], "KD.REGIONS.TOP_K 6, not 7"),
    "features": ("feature", ["KD.FEATURE.COMPARE", "box_head"], [], "features.conv5 pooled, not box_head"),
    "maps": ("feature", FITNETS, [], "maps.features.conv5 missing, not True"),
    "other keys": ("feature", [], ["MODEL.DEVICE", "cuda", "MODEL.WEIGHTS", "a.pth", "SOLVER.BASE_LR", 3.0], ""),
    "memory": ("prediction", [], ["MODEL.BACKBONE.FEATURE_CACHE_MIB", 9], ""),
}


@pytest.mark.parametrize("case", OTHER_RUNS)
def test_a_run_with_other_settings_is_refused(scenes: CachedScenes, plain: Path, tmp_path: Path, case: str) -> None:
    stage, options, teacher_options, key = OTHER_RUNS[case]
    (tmp_path / "config.yaml").write_text(scenes_teacher_config(*teacher_options).dump())
    (tmp_path / "teacher.pth").symlink_to(scenes.teacher)
    options = [*options, "KD.TEACHER.WEIGHTS", str(tmp_path / "teacher.pth")]
    if not key:
        assert len(CachedKnowledge(scenes.config(stage, plain, *options)).caches["tiny_train"]) == 24
        return
    with pytest.raises(InputError, match=key) as error:
        CachedKnowledge(scenes.config(stage, plain, *options))
    assert str(plain) in str(error.value) and "\n" not in str(error.value)
    if stage == "feature":  # which needs no features
        CachedKnowledge(scenes.config("prediction", plain, *options))


def test_another_teacher_and_other_images_are_refused(
    scenes: CachedScenes, plain: Path, tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = torch.load(scenes.teacher, weights_only=True)
    content["model"] = {name: value * 2 for name, value in content["model"].items()}
    torch.save(content, tmp_path / "other.pth")
    (tmp_path / "config.yaml").symlink_to(scenes.folder / "config.yaml")
    with pytest.raises(InputError, match="made with teacher "):
        CachedKnowledge(scenes.config("feature", plain, "KD.TEACHER.WEIGHTS", str(tmp_path / "other.pth")))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "images").symlink_to(tiny_scenes / "tiny" / "images")
    for name in ("labels_train.csv", "labels_test.csv", "classes.txt"):
        lines = (tiny_scenes / "tiny" / name).read_text().splitlines()
        (tmp_path / "tiny" / name).write_text("\n".join(lines[: -1 if "train" in name else None]) + "\n")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(InputError, match="made with images "):
        CachedKnowledge(scenes.config("feature", plain))


def test_other_proposals_are_refused_and_missing_ones_are_not_needed(scenes, plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "other"
    cfg = scenes.config("feature", plain, "DATASETS.PROPOSALS.TRAIN_FILES", (str(path),))
    CachedKnowledge(cfg)(samples(cfg, [(0, View(32))]))
    assert not needs_proposals(cfg, training=True)
    write_random_boxes(path, "tiny_train", seed=9)
    with pytest.raises(InputError, match="made with proposals "):
        CachedKnowledge(cfg)
