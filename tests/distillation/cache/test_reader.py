"""A cache that does not fit, or is damaged, is refused in one line that says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.cached_scenes import CachedScenes, samples, write_random_boxes
from helpers.small_models import save_teacher, teacher_config
from mlickd.data import View
from mlickd.distillation.cache import CachedKnowledge, shard_folder
from mlickd.errors import InputError


def refusal(cfg) -> str:
    with pytest.raises(InputError) as error:
        CachedKnowledge(cfg)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def copy(plain: Path, tmp_path: Path) -> Path:
    """A cache to be damaged."""
    shutil.copytree(plain, tmp_path / "cache")
    return tmp_path / "cache"


def test_another_teacher_is_named(scenes: CachedScenes, plain: Path, tmp_path: Path) -> None:
    cfg = teacher_config()
    cfg.merge_from_list(["MODEL.NUM_CLASSES", 20, "MODEL.WSDDN.INIT_STD", 1.0, "MODEL.WSDDN.SCORE_SLOPE", 3.0])
    other = save_teacher(tmp_path, cfg)
    message = refusal(scenes.config("prediction", plain, "KD.TEACHER.WEIGHTS", str(other)))
    assert (
        "made with another teacher checkpoint, another teacher configuration (MODEL.WSDDN.SCORE_SLOPE 1.0, not 3.0)"
        in message
    )


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("INPUT.SIZE_TEST", 48, "INPUT.SIZE_TEST 64, not 48"),
        ("DATASETS.PROPOSALS.TOP_K", 4, "DATASETS.PROPOSALS.TOP_K 500, not 4"),
        ("DATASETS.PROPOSALS.MIN_SIDE", 3.0, "MIN_SIDE 0.0, not 3.0"),
        ("MODEL.WSDDN.SCORE_WEIGHTING", "none", "SCORE_WEIGHTING score, not none"),
    ],
)
def test_another_configuration_of_the_teacher_is_named(
    scenes: CachedScenes, plain: Path, tmp_path: Path, key: str, value: object, words: str
) -> None:
    cfg = teacher_config()
    cfg.merge_from_list(["MODEL.NUM_CLASSES", 20, "MODEL.WSDDN.INIT_STD", 2.0, key, value])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    options = ["KD.TEACHER.CONFIG_FILE", str(tmp_path / "config.yaml")]
    message = refusal(scenes.config("prediction", plain, *options))
    assert "made with another teacher configuration" in message and words in message
    assert "checkpoint" not in message


def test_a_teacher_that_looks_once_is_not_one_that_looks_twice(scenes: CachedScenes, plain: Path) -> None:
    assert "KD.TEACHER.FLIP False, not True" in refusal(scenes.config("prediction", plain, "KD.TEACHER.FLIP", True))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.WSDDN.INIT_STD", 7.0),
        ("MODEL.ROI_BOX_HEAD.DROPOUT", 0.1),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.9),
        ("MODEL.BACKBONE.FROZEN", True),
        ("MODEL.CLASSIFIER.POOLING", "fc"),
        ("SOLVER.BASE_LR", 3.0),
    ],
)
def test_what_does_not_change_what_a_teacher_says_is_free(
    scenes: CachedScenes, plain: Path, tmp_path: Path, key: str, value: object
) -> None:
    cfg = teacher_config()
    cfg.merge_from_list(["MODEL.NUM_CLASSES", 20, key, value])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    known = CachedKnowledge(scenes.config("feature", plain, "KD.TEACHER.CONFIG_FILE", str(tmp_path / "config.yaml")))
    assert len(known.caches["tiny_train"]) == 24


def test_a_key_that_the_cache_does_not_know_has_its_default(scenes: CachedScenes, copy: Path, tmp_path: Path) -> None:
    """As a key that a later version adds."""
    folder = shard_folder(copy, "tiny_train", (1, 1))
    values = json.loads((folder / "header.json").read_text())["teacher_config"]
    del values["MODEL.WSDDN.SCORE_SLOPE"]
    change_header(folder, teacher_config=values)
    CachedKnowledge(scenes.config("feature", copy))
    cfg = teacher_config()
    cfg.merge_from_list(["MODEL.NUM_CLASSES", 20, "MODEL.WSDDN.SCORE_SLOPE", 2.0])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    options = ["KD.TEACHER.CONFIG_FILE", str(tmp_path / "config.yaml")]
    assert "MODEL.WSDDN.SCORE_SLOPE 1.0, not 2.0" in refusal(scenes.config("feature", copy, *options))


def test_other_proposals_are_named_and_none_are_needed(scenes: CachedScenes, plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "other"
    cfg = scenes.config("feature", plain, "DATASETS.PROPOSALS.TRAIN_FILES", (str(path),))
    batch = samples(cfg, [(0, View(32))])
    CachedKnowledge(cfg)(batch)  # no such file: the cache has the boxes
    write_random_boxes(path, "tiny_train", seed=9)
    assert "was made with other proposals" in refusal(cfg)


def test_other_images_are_named(
    scenes: CachedScenes, plain: Path, tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_scenes / "tiny", tmp_path / "tiny")
    labels = tmp_path / "tiny" / "labels_train.csv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:-1]) + "\n")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    message = refusal(scenes.config("feature", plain))
    assert "other images" in message and "another number of images (24, not 23)" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["KD.REGIONS.TOP_K", 7], "regions.top_k 6, not 7"),
        (["KD.REGIONS.NMS_THRESH", 0.4], "regions.nms_thresh 0.5, not 0.4"),
        (["KD.REGIONS.WEIGHT", "uniform"], "regions.weight teacher, not uniform"),
        (["KD.FEATURE.COMPARE", "box_head"], "compare pooled, not box_head"),
    ],
)
def test_another_selection_is_named_in_stage_1_and_no_matter_in_stage_2(
    scenes: CachedScenes, plain: Path, options: list, words: str
) -> None:
    message = refusal(scenes.config("feature", plain, *options))
    assert "was made with other settings of R'" in message and words in message
    CachedKnowledge(scenes.config("prediction", plain, *options))


def test_a_cache_without_features_serves_stage_2_alone(scenes: CachedScenes, tmp_path: Path) -> None:
    unused = ["KD.FEATURE.LAYERS", ("nowhere:conv5",)]
    cache = scenes.make(str(tmp_path), *unused, features=False, mirrored=False)
    assert "holds no features of regions, which KD.FEATURE.DISTILLER needs" in refusal(scenes.config("feature", cache))
    cfg = scenes.config("prediction", cache, *unused)
    (knowledge,) = CachedKnowledge(cfg)(samples(cfg, [(0, View(32))]))
    assert knowledge.image_scores.shape == (20,) and knowledge.boxes is None


def test_a_cache_that_is_not_there_is_answered_with_the_command(scenes: CachedScenes, tmp_path: Path) -> None:
    assert "nothing for dataset tiny_train; make it with tools/cache_knowledge.py" in refusal(
        scenes.config("feature", tmp_path / "nowhere")
    )


def cut(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:-7])


def lie(folder: Path, name: str) -> None:
    """A header of a petabyte, before the data of the real one."""
    path = folder / f"{name}.npy"
    array = np.load(path)
    with path.open("wb") as file:
        description = {"descr": array.dtype.str, "fortran_order": False, "shape": (2**50, *array.shape[1:])}
        np.lib.format.write_array_header_1_0(file, description)
        file.write(array.tobytes())


def pickle_in(folder: Path, name: str) -> None:
    np.save(folder / f"{name}.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def change_header(folder: Path, **values: object) -> None:
    header = json.loads((folder / "header.json").read_text())
    (folder / "header.json").write_text(json.dumps(header | values))


def change_ids(folder: Path, change) -> None:
    ids = json.loads((folder / "ids.json").read_text())
    (folder / "ids.json").write_text(json.dumps(change(ids)))


def change_array(folder: Path, name: str, change) -> None:
    array = np.load(folder / f"{name}.npy")
    change(array)
    np.save(folder / f"{name}.npy", array)


def archive_in(folder: Path, name: str) -> None:
    with (folder / f"{name}.npy").open("wb") as file:
        np.savez(file, a=np.ones(24))


def set_value(index: object, value: object):
    def change(array: np.ndarray) -> None:
        array[index] = value

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: cut(f, "boxes.npy"), "boxes.npy: missing, cut short or damaged"),
        (lambda f: cut(f, "features_conv5.npy"), "features_conv5.npy: missing, cut short or damaged"),
        (lambda f: (f / "weights.npy").unlink(), "weights.npy: missing, cut short or damaged"),
        (lambda f: (f / "done.npy").write_bytes(b""), "done.npy: missing, cut short or damaged"),
        (lambda f: (f / "done.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16), "done.npy: missing"),
        (lambda f: archive_in(f, "done"), "done.npy: missing, cut short or damaged"),
        (lambda f: lie(f, "boxes"), "boxes.npy: missing, cut short or damaged"),
        (lambda f: lie(f, "region_offsets"), "region_offsets.npy: missing, cut short or damaged"),
        (lambda f: pickle_in(f, "weights"), "weights.npy: missing, cut short or damaged"),
        (lambda f: np.save(f / "boxes.npy", np.zeros((3, 4), np.float32)), r"boxes.npy: holds float32 \(3, 4\), where"),
        (lambda f: change_array(f, "region_offsets", set_value(3, 10**9)), "damaged table of regions"),
        (lambda f: change_array(f, "region_offsets", set_value(-1, 10**15)), "boxes.npy: holds"),
        (lambda f: (f / "header.json").write_text("{"), "header.json: cannot be read .not JSON."),
        (lambda f: (f / "header.json").write_text("[" * 10**5), "header.json: cannot be read .not JSON."),
        (lambda f: (f / "header.json").write_text("[]"), "header.json: damaged"),
        (lambda f: (f / "header.json").unlink(), "header.json: cannot be read .No such file"),
        (lambda f: change_header(f, format=2), r"another format \(2, not 1\)"),
        (lambda f: change_header(f, mirrored=True), "holds"),
        (lambda f: change_header(f, mirrored=3), "header.json: damaged"),
        (lambda f: change_header(f, shard=[1, 2]), r"another shard \(\[1, 2\], not \[1, 1\]\)"),
        (lambda f: change_header(f, classes=None), "other classes"),
        (lambda f: change_header(f, num_images=10**12), "another number of images"),
        (lambda f: change_header(f, features={"layers": {"conv5": "huge"}}), "other settings of R'"),
        (lambda f: change_header(f, teacher_config=[1]), "another teacher configuration"),
        (lambda f: (f / "ids.json").write_text("7"), "ids.json: is not a list of 24 image ids"),
        (lambda f: change_ids(f, lambda ids: ids[1:]), "ids.json: is not a list of 24 image ids"),
        (lambda f: change_ids(f, lambda ids: [ids[0], *ids[:-1]]), "an image id is in it twice"),
        (lambda f: change_ids(f, lambda ids: ["other", *ids[1:]]), "holds nothing for image"),
    ],
)
def test_damage_is_named(scenes: CachedScenes, copy: Path, damage, message: str) -> None:
    damage(shard_folder(copy, "tiny_train", (1, 1)))
    with pytest.raises(InputError, match=message) as error:
        CachedKnowledge(scenes.config("feature", copy))
    assert "\n" not in str(error.value) and len(str(error.value)) < 800


@pytest.mark.parametrize(
    ("name", "value"), [("selected", 10**6), ("selected", -1), ("selected_counts", 10**6), ("selected_counts", -1)]
)
def test_a_damaged_selection_is_named_when_it_is_read(scenes: CachedScenes, copy: Path, name: str, value: int) -> None:
    change_array(shard_folder(copy, "tiny_train", (1, 1)), name, set_value((0, 0), value))
    source = CachedKnowledge(scenes.config("feature", copy))
    first = source.caches["tiny_train"].shards[0].ids[0]
    with pytest.raises(InputError, match=f"image {first}: damaged selection of regions"):
        source([{"dataset": "tiny_train", "image_id": first, "view": View(32)}])


def test_more_layers_than_a_run_compares_do_no_harm(scenes: CachedScenes, tmp_path: Path) -> None:
    cfg = teacher_config()
    cfg.merge_from_list(["MODEL.NUM_CLASSES", 20, "MODEL.VGG.OUT_FEATURES", ("conv4", "conv5")])
    options = ["KD.TEACHER.WEIGHTS", str(save_teacher(tmp_path, cfg))]
    both = [*options, "KD.FEATURE.LAYERS", ("conv4:conv5", "conv5:conv5")]
    cache = scenes.make(str(tmp_path / "cache"), *both)
    single = scenes.config("feature", cache, *options)
    batch = samples(single, [(1, View(32))])
    (one,), (two,) = CachedKnowledge(single)(batch), CachedKnowledge(scenes.config("feature", cache, *both))(batch)
    assert list(one.features) == ["conv5"] and list(two.features) == ["conv4", "conv5"]
    assert one.map_sizes == {"conv5": (4, 4)} and two.map_sizes == {"conv4": (8, 8), "conv5": (4, 4)}
    np.testing.assert_array_equal(one.features["conv5"], two.features["conv5"])
