"""Two processes that share a batch compute the same as one process with the whole batch."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode

from helpers.cached_scenes import CachedScenes, write_random_boxes
from helpers.processes import in_two_processes, read_training, train_all
from helpers.small_models import small_config, teacher_config
from mlickd.data.scenes import write_scenes

COMMON = ["SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.WARMUP_ITERS", 0, "SOLVER.STEPS", ()]
COMMON += ["SEED", 1, "TEST.IMS_PER_BATCH", 2]
SMALL_STEPS = ["SOLVER.BASE_LR", 0.0001, "KD.FEATURE.WEIGHT", 0.001]
LED = ["KD.FEATURE.DISTILLER", "LabelEmbeddingDistiller", "KD.PREDICTION.FEATURE_LOSS", True]
LED += ["MODEL.CLASSIFIER.POOLING", "max", "KD.METHOD_STAGES", ("prediction",), "KD.FEATURE.WEIGHT", 1.0]
NOT_THE_LAST_MAP = ["MODEL.CLASSIFIER.IN_FEATURE", "conv5", "KD.FEATURE.LAYERS", ("conv5:conv4",)]
UNLABELED = ["DATASETS.TRAIN", ("tiny_train@1of4",), "DATASETS.UNLABELED", ("tiny_train@not1of4",)]
STAGES = {
    "stage 1, live": ("feature", False, []),
    # The last map does not get gradients; the processes must agree on that.
    "stage 1, cached": ("feature", True, ["MODEL.VGG.OUT_FEATURES", ("conv4", "conv5"), *NOT_THE_LAST_MAP]),
    "stage 2, live": ("prediction", False, []),
    "stage 2, cached": ("prediction", True, []),
    "stage 2, in parts": ("prediction", True, ["SOLVER.GRAD_ACCUM_STEPS", 2]),
    "stage 2, unlabeled": ("prediction", False, UNLABELED),
    "label embeddings": ("prediction", True, LED),
}
TEACHERS = ["teacher", "refined teacher", "centered context"]
EVALUATED = ["teacher", "student"]


@pytest.fixture(scope="module")
def configs(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CfgNode]:
    """Return a configuration of each kind of training, evaluated on seven test scenes."""
    folder = tmp_path_factory.mktemp("processes")
    write_scenes(tiny_scenes / "seven", {"train": 1, "test": 7}, side=96, seed=3)
    scenes = CachedScenes.create(folder / "scenes")
    caches = {True: scenes.make("cache"), False: ""}
    write_random_boxes(folder / "seven_test", "seven_test", seed=2)
    boxes = ["DATASETS.PROPOSALS.TRAIN_FILES", (str(scenes.proposals),)]
    boxes += ["DATASETS.PROPOSALS.TEST_FILES", (str(folder / "seven_test"),)]
    data = ["DATASETS.TRAIN", ("tiny_train",), "DATASETS.TEST", ("seven_test",), "MODEL.NUM_CLASSES", 20]

    teacher = teacher_config()
    # Without dropout, which differs between processes, and with larger initial weights, because the scores of an
    # untrained teacher are almost equal.
    teacher.merge_from_list(["MODEL.ROI_BOX_HEAD.DROPOUT", 0.0, "MODEL.WSDDN.INIT_STD", 1.0, *data, *boxes])
    refined = teacher.clone()
    refined.merge_from_list(["MODEL.ROI_HEADS.NAME", "OICRHeads", "DATASETS.TEST", ()])
    centered = teacher.clone()
    centered.merge_from_list(["MODEL.WSDDN.CONTEXT", 0.5, "MODEL.WSDDN.FEATURE_NORM", 20.0, "DATASETS.TEST", ()])
    centered.MODEL.BACKBONE.FROZEN = True  # roots of its small features would have large gradients
    student = small_config("Base-Classifier", "INPUT.SIZES_TRAIN", (32, 48), "INPUT.SIZE_TEST", 32, *data)
    found = {"teacher": teacher, "refined teacher": refined, "centered context": centered, "student": student}
    for name, norm in (("batch normalization", "BN"), ("synchronized normalization", "naiveSyncBN")):
        found[name] = student.clone()
        found[name].MODEL.VGG.NORM = norm
    for name, (stage, cached, options) in STAGES.items():
        found[name] = scenes.config(stage, caches[cached], *SMALL_STEPS, "DATASETS.TEST", (), *options)
    found["stage 2, unlabeled"].DATASETS.PROPOSALS.UNLABELED_FILES = (str(scenes.proposals),)
    for cfg in found.values():
        cfg.merge_from_list(COMMON)
        cfg.freeze()
    return found


@pytest.fixture(scope="module")
def trained(configs: dict[str, CfgNode], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of the same runs in one process and in two."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("one", "two")}
    threads = torch.get_num_threads()
    train_all(configs, folders["one"])
    torch.set_num_threads(threads)
    in_two_processes(train_all, configs, folders["two"])
    return folders


def assert_equal(two: dict[str, torch.Tensor], one: dict[str, torch.Tensor], relative: float = 1e-4) -> None:
    """Assert equality up to rounding, because processes sum in another order."""
    assert two.keys() == one.keys() and len(one) > 5
    # Some gradients are zero up to rounding: a softmax over regions does not change with a class's bias.
    rounding = 1e-6 * max(float(value.abs().max()) for value in one.values())
    for key, value in one.items():
        tolerance = rounding + relative * float(value.abs().max())
        torch.testing.assert_close(two[key], value, rtol=0, atol=tolerance, msg=key)


@pytest.mark.parametrize("name", [*TEACHERS, "student", "synchronized normalization", *STAGES])
def test_two_processes_have_the_gradients_and_weights_of_one(trained: dict[str, Path], name: str) -> None:
    one = read_training(trained["one"] / name)
    assert any(float(gradient.abs().max()) > 1e-6 for gradient in one["gradients"].values())
    relative = 1e-2 if name == "centered context" else 1e-4  # roots of small features amplify rounding
    for rank in (0, 1):
        two = read_training(trained["two"] / name, rank)
        assert_equal(two["gradients"], one["gradients"], relative)
        if name != "synchronized normalization":  # its running variances differ slightly
            assert_equal(two["weights"], one["weights"], relative)


def test_both_processes_end_with_identical_weights(configs: dict[str, CfgNode], trained: dict[str, Path]) -> None:
    for name in configs:
        first, second = (read_training(trained["two"] / name, rank)["weights"] for rank in (0, 1))
        assert all(torch.equal(value, second[key]) for key, value in first.items()), name


def test_batch_normalization_averages_the_statistics_of_processes(trained: dict[str, Path]) -> None:
    """Only the mean of the first layer is equal; later layers see each half normalized separately."""
    one, two = (read_training(trained[number] / "batch normalization") for number in ("one", "two"))
    key = "backbone.conv1_1.norm.running_mean"
    assert float(one["weights"][key].abs().max()) > 0.01
    torch.testing.assert_close(two["weights"][key], one["weights"][key], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", EVALUATED)
def test_each_of_seven_images_is_scored_once(trained: dict[str, Path], name: str) -> None:
    one, two = (json.loads((trained[n] / name / "results.json").read_text()) for n in ("one", "two"))
    assert two.keys() == one.keys() == ({"multilabel", "detection"} if name == "teacher" else {"multilabel"})
    for kind, figures in one.items():
        assert two[kind] == pytest.approx(figures, abs=1e-6, nan_ok=True)
    scores = {}
    for n in ("one", "two"):
        with np.load(trained[n] / name / "inference" / "seven_test" / "image_scores.npz", allow_pickle=False) as saved:
            scores[n] = saved["image_ids"].tolist(), saved["scores"]
    assert len(set(scores["two"][0])) == 7 and scores["two"][0] == scores["one"][0]
    np.testing.assert_allclose(scores["two"][1], scores["one"][1], atol=1e-5)


def test_only_the_first_process_writes(trained: dict[str, Path]) -> None:
    """The helper writes one more file in each process."""

    def files(run: Path) -> list[str]:
        names = [path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()]
        return sorted(re.sub("tfevents.*", "tfevents", name) for name in names)

    for name in EVALUATED:
        assert files(trained["two"] / name) == sorted([*files(trained["one"] / name), "left-1.pth"])
