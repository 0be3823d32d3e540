"""Bad input stops a run before it starts, in one line; what follows from the data is filled in."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine.train_loop import TrainerBase
from detectron2.modeling import META_ARCH_REGISTRY

from helpers.small_models import save_teacher, teacher_config
from mlickd.data import dataset_records, proposals_path, write_store
from mlickd.distillation import DistillationHook, DistilledClassifier
from mlickd.engine import Trainer, check_inputs, complete_config, load_config
from mlickd.errors import InputError
from mlickd.modeling import MultiLabelClassifier
from mlickd.modeling.checkpoint import model_blueprint

CONFIGS = Path(__file__).parents[2] / "configs"
DATA = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)", "MODEL.BACKBONE.WEIGHTS", ""]


@pytest.fixture
def root(tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny dataset that a test may damage."""
    shutil.copytree(tiny_scenes / "tiny", tmp_path / "datasets" / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def write_boxes(name: str, change=None) -> Path:
    """A store with the whole image as the only proposal; `change(image_id, box)` may damage it."""
    items = []
    for i, record in enumerate(dataset_records(name)):
        box = np.array([[0, 0, record["width"], record["height"]]], dtype=np.float32)
        box = box if change is None else change(i, box)
        if box is not None:
            items.append((record["image_id"], box, np.ones(len(box), dtype=np.float32)))
    path = proposals_path(name, "edge_boxes")
    write_store(path, items, method="edge_boxes", parameters={}, image_digest="test")
    return path


def prepare(
    config: str, *options: object, stage: str | None = None, eval_only: bool = False, resume: bool = False
) -> CfgNode:
    cfg = load_config(str(CONFIGS / config), [*DATA, *map(str, options)], stage)
    complete_config(cfg, eval_only=eval_only, resume=resume)
    check_inputs(cfg, eval_only=eval_only, resume=resume)
    return cfg


def test_classes_device_and_pixel_statistics_are_filled_in(root: Path) -> None:
    cfg = prepare("folder/cls.yaml")
    assert cfg.MODEL.NUM_CLASSES == 20
    assert cfg.MODEL.DEVICE == ("cuda" if torch.cuda.is_available() else "cpu")
    assert cfg.MODEL.PIXEL_MEAN == pytest.approx([127.5] * 3)


@pytest.mark.parametrize(("capability", "told"), [("AVX2", True), ("AVX512", False)])
def test_a_processor_without_bfloat16_is_told_of(
    capability: str, told: bool, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    amp = ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16")
    with caplog.at_level(logging.WARNING):
        prepare("folder/cls.yaml", *amp)
    assert ("bfloat16" in caplog.text) == told
    with pytest.raises(InputError, match="SOLVER.AMP.DTYPE 'float16' needs CUDA"):
        prepare("folder/cls.yaml", *amp[:2], "SOLVER.AMP.DTYPE", "float16")


def test_each_stage_may_have_its_own_rate_and_length(root: Path, tmp_path: Path) -> None:
    for name in ("tiny_train", "tiny_test"):
        write_boxes(name)
    teacher = teacher_config()
    teacher.MODEL.NUM_CLASSES = 20
    options = ["KD.TEACHER.WEIGHTS", save_teacher(tmp_path, teacher), "KD.FEATURE.BASE_LR", 0.5]
    options += ["KD.FEATURE.MAX_ITER", 7, "KD.PREDICTION.MAX_ITER", 0, "SOLVER.MAX_ITER", 9, "SOLVER.BASE_LR", 0.25]
    options += ["KD.FEATURE.WARMUP_ITERS", 0, "KD.PREDICTION.WARMUP_ITERS", -1, "SOLVER.WARMUP_ITERS", 3]
    options += ["OUTPUT_DIR", tmp_path / "out", "KD.FEATURE.LAYERS", "('conv5:stride16',)"]
    feature = prepare("scenes/kd.yaml", *options, stage="feature")
    assert (feature.SOLVER.BASE_LR, feature.SOLVER.MAX_ITER, feature.SOLVER.WARMUP_ITERS) == (0.5, 7, 0)
    prediction = prepare("scenes/kd.yaml", *options, "KD.METHOD_STAGES", "('prediction',)", stage="prediction")
    solver = prediction.SOLVER
    assert (solver.BASE_LR, solver.MAX_ITER, solver.WARMUP_ITERS) == (0.25, 9, 3)


@pytest.mark.parametrize("eval_only", [True, False])
def test_nothing_is_downloaded_for_a_model_that_a_checkpoint_replaces(
    root: Path, tmp_path: Path, eval_only: bool
) -> None:
    torch.save(
        model_blueprint(prepare("folder/cls.yaml")).to_empty(device="cpu").state_dict(), tmp_path / "model_final.pth"
    )
    checkpoint = () if eval_only else ("MODEL.WEIGHTS", tmp_path / "model_final.pth")
    options = ("MODEL.TIMM.PRETRAINED", True, "OUTPUT_DIR", tmp_path, *checkpoint)
    assert not prepare("folder/cls.yaml", *options, eval_only=eval_only).MODEL.TIMM.PRETRAINED
    assert prepare("folder/cls.yaml", *options[:2]).MODEL.TIMM.PRETRAINED


def remove_images(root: Path) -> None:
    shutil.rmtree(root / "tiny" / "images")


def replace_in_labels(old: str, new: str):
    def change(root: Path) -> None:
        path = root / "tiny" / "labels_train.csv"
        lines = path.read_text().splitlines()
        lines[1] = lines[1].split(",")[0] + "," + new if old == "labels" else lines[1]
        if old == "duplicate":
            lines.append(lines[1])
        if old == "empty":
            lines = lines[:1]
        path.write_text("\n".join(lines) + "\n")

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_images, r"tiny.images"),
        (replace_in_labels("labels", "unicorn"), r"labels_train.csv.*unicorn"),
        (replace_in_labels("duplicate", ""), r"labels_train.csv.*(twice|again|duplicate)"),
        (replace_in_labels("empty", ""), r"labels_train.csv.*(empty|no image)"),
    ],
)
def test_a_damaged_data_set_is_refused(root: Path, damage, message: str) -> None:
    damage(root)
    with pytest.raises(InputError, match=message) as error:
        prepare("scenes/cls.yaml")
    assert "\n" not in str(error.value)


def test_a_class_without_a_positive_is_warned_of_by_name(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open(root / "tiny" / "classes.txt", "a") as file:
        file.write("unicorn\n")
    with caplog.at_level(logging.WARNING):
        prepare("scenes/cls.yaml")
    assert "unicorn" in caplog.text


def bad_box(*box: float):
    def change(i: int, old: np.ndarray) -> np.ndarray:
        return np.array([box], dtype=np.float32) if i == 1 else old

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, box: None if i == 1 else box, "no proposals for image"),
        (bad_box(np.nan, 0, 10, 10), "nan"),
        (bad_box(20, 0, 10, 10), "20, 0, 10, 10"),
        (bad_box(5, 5, 5, 20), "5, 5, 5, 20"),
        (bad_box(0, 0, 10, 9999), "9999"),
    ],
)
def test_bad_proposals_are_refused_by_store_and_image(root: Path, change, message: str) -> None:
    store = write_boxes("tiny_train", change)
    write_boxes("tiny_test")
    with pytest.raises(InputError, match=message) as error:
        prepare("scenes/wsd.yaml")
    name = dataset_records("tiny_train")[1]["image_id"]
    assert str(store) in str(error.value) and str(name) in str(error.value)


def test_missing_proposals_are_answered_with_the_command_that_makes_them(root: Path) -> None:
    with pytest.raises(InputError, match=r"generate_proposals.py --dataset tiny_train --method edge_boxes"):
        prepare("scenes/wsd.yaml")


@pytest.mark.parametrize(
    ("options", "stage", "message"),
    [
        (["DATASETS.TRAIN", "('nowhere_train',)"], None, "unknown dataset 'nowhere_train'"),
        (["DATASETS.TEST", "()"], None, "DATASETS.TEST is empty"),
        (["MODEL.NUM_CLASSES", 7], None, "MODEL.NUM_CLASSES 7: dataset tiny_train has 20 classes"),
        (["MODEL.WEIGHTS", "nowhere.pth"], None, "MODEL.WEIGHTS nowhere.pth: no such file"),
        (["MODEL.WEIGHT", "x"], None, "MODEL.WEIGHT"),
        (["SOLVER.MAX_ITER", "many"], None, "many"),
        (["SOLVER.MAX_ITER"], None, "SOLVER.MAX_ITER"),
        ([], "feature", "has no stages"),
        (["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], None, "'GeneralizedRCNN' is none of"),
        (["MODEL.BACKBONE.NAME", "build_nothing"], None, "MODEL.BACKBONE.NAME 'build_nothing' is none of"),
        (["MODEL.BACKBONE.WEIGHTS", "torchvision://VGG99_Weights.X"], None, "torchvision has no such weights"),
        (["MODEL.BACKBONE.WEIGHTS", "nowhere.pth"], None, "MODEL.BACKBONE.WEIGHTS nowhere.pth: no such file"),
        (["SOLVER.OPTIMIZER", "LION"], None, "'LION' is none of SGD, ADAMW"),
        (["SOLVER.LR_SCHEDULER_NAME", "Never"], None, "'Never' is none of"),
        (["SOLVER.IMS_PER_BATCH", 0], None, "SOLVER.IMS_PER_BATCH 0 must be positive"),
        (["SEED.A", 1], None, "SEED.A"),
        (["TEST.TOP_K", 0], None, "TEST.TOP_K.*topk"),
        (["INPUT.RANDOM_FLIP", "vertical"], None, "'vertical' is none of horizontal, none"),
        (["INPUT.SIZES_TRAIN", "()"], None, "INPUT.SIZES_TRAIN"),
        (["INPUT.RANDOM_CROP.AREA", "(0.5, 0.2)"], None, r"INPUT.RANDOM_CROP.AREA \(0\.5, 0\.2\) must be the smallest"),
        (["INPUT.RANDOM_CROP.AREA", "(0.5, 1.1)"], None, r"INPUT.RANDOM_CROP.AREA \(0\.5, 1\.1\) must be"),
        (["INPUT.RANDOM_CROP.ASPECT", "(1.0,)"], None, r"INPUT.RANDOM_CROP.ASPECT \(1\.0,\) must be"),
        (["INPUT.RANDOM_CROP.ASPECT", "(0.0, 1.0)"], None, r"INPUT.RANDOM_CROP.ASPECT \(0\.0, 1\.0\) must be"),
        (["INPUT.COLOR_JITTER.CONTRAST", "1.5"], None, "INPUT.COLOR_JITTER.CONTRAST 1.5 must be from 0"),
    ],
)
def test_bad_options_are_named(root: Path, options, stage, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare("scenes/cls.yaml", *options, stage=stage)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (None, "--kd-stage is missing; give feature or prediction"),
        ("both", "--kd-stage both: there is no such stage; give feature or prediction"),
        ("prediction", r"stage 1 has left no .*feature.student.pth; run `--kd-stage feature` first"),
    ],
)
def test_bad_stages_are_named(root: Path, tmp_path: Path, stage, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare("scenes/kd.yaml", "OUTPUT_DIR", tmp_path / "out", stage=stage)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["TEST.AUG.MIN_SIZES", "(0, 64)"], r"TEST.AUG.MIN_SIZES \(0, 64\) must be positive integers"),
        (["TEST.CORLOC_IMAGES", -1], "TEST.CORLOC_IMAGES -1 must be 0"),
        (["TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 0], "NUM_ITER 0 must be positive"),
        (["SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "all"], "SOLVER.CLIP_GRADIENTS.CLIP_TYPE 'all' is none of value, norm"),
        (["SOLVER.CLIP_GRADIENTS.CLIP_VALUE", -1.0], "SOLVER.CLIP_GRADIENTS.CLIP_VALUE -1.0 must be positive"),
    ],
)
def test_bad_options_of_a_teacher_are_named(root: Path, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare("scenes/wsd.yaml", *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["KD.REGIONS.WEIGHT", "best"], "KD.REGIONS.WEIGHT 'best' is none of teacher, proposal, uniform"),
        (["KD.REGIONS.NMS_THRESH", 0.0], "KD.REGIONS.NMS_THRESH 0.0 must be in"),
        (["KD.REGIONS.TOP_K", -1], "KD.REGIONS.TOP_K -1"),
        (["KD.PREDICTION.TEACHER_TEMPERATURE", 0.0], "TEACHER_TEMPERATURE 0.0 must be positive"),
        (["KD.PREDICTION.LOSS", "kl"], "'kl' is none of l2, bce"),
    ],
)
def test_bad_options_of_distillation_are_named(root: Path, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare("scenes/kd.yaml", *options, stage="feature")


def test_a_missing_teacher_is_named(root: Path, tmp_path: Path) -> None:
    for name in ("tiny_train", "tiny_test"):
        write_boxes(name)
    with pytest.raises(InputError, match="KD.TEACHER"):
        prepare("scenes/kd.yaml", "KD.TEACHER.WEIGHTS", tmp_path / "none.pth", stage="feature")


def test_a_missing_or_malformed_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--config-file nowhere.yaml: no such file"):
        load_config("nowhere.yaml", [])
    (tmp_path / "bad.yaml").write_text("MODEL: [unclosed")
    with pytest.raises(InputError, match="bad.yaml"):
        load_config(str(tmp_path / "bad.yaml"), [])


def test_a_checkpoint_of_another_model_is_refused_with_its_keys(root: Path, tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path)
    with pytest.raises(InputError, match=r"is not a checkpoint of this MultiLabelClassifier: missing: .*left over:"):
        prepare("scenes/cls.yaml", "MODEL.WEIGHTS", teacher, "OUTPUT_DIR", tmp_path / "out")


def test_a_run_that_goes_on_is_looked_at_behind_a_damaged_checkpoint_and_needs_no_weights(
    root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    shutil.copy(save_teacher(tmp_path), folder / "model_0000001.pth")
    (folder / "model_0000003.pth").write_bytes(b"damaged")
    (folder / "checkpoints.json").write_text(json.dumps({"model_0000001.pth": "", "model_0000003.pth": ""}))
    (folder / "last_checkpoint").write_text("model_0000003.pth")
    options = ["OUTPUT_DIR", folder, "MODEL.WEIGHTS", tmp_path / "gone.pth"]
    with pytest.raises(InputError, match=r"--resume .*model_0000001\.pth is not a checkpoint of this MultiLabelCl"):
        prepare("scenes/cls.yaml", *options, resume=True)
    with pytest.raises(InputError, match=r"MODEL\.WEIGHTS .*gone\.pth: no such file"):
        prepare("scenes/cls.yaml", *options)


class Forbidden(list):
    """Boxes of objects that nobody may look at."""

    def __iter__(self):
        raise AssertionError("training has read a box")

    __getitem__ = __len__ = __iter__


@pytest.mark.parametrize(("config", "stage"), [("wsd", None), ("cls", None), ("kd", "feature"), ("kd", "prediction")])
def test_training_never_reads_a_box(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, stage: str | None
) -> None:
    for name in ("tiny_train", "tiny_test"):
        write_boxes(name)
    options = ["DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 1]
    options += ["MODEL.WEIGHTS", "", "OUTPUT_DIR", tmp_path / "out", "MODEL.BACKBONE.FREEZE_NORM", False]
    if stage:
        teacher = teacher_config()
        teacher.MODEL.NUM_CLASSES = 20
        options += ["KD.TEACHER.WEIGHTS", save_teacher(tmp_path, teacher), "KD.FEATURE.LAYERS", "('conv5:stride16',)"]
        options += ["KD.METHOD_STAGES", f"('{stage}',)"]
    cfg = prepare(f"scenes/{config}.yaml", *options, stage=stage)
    cfg.MODEL.WEIGHTS = ""
    real_records = dataset_records("tiny_train")
    assert any(record["annotations"] for record in real_records)

    def records_without_boxes(name: str, boxes: bool = True) -> list[dict]:
        return [record | {"annotations": Forbidden()} for record in real_records]

    monkeypatch.setattr("mlickd.data.build.dataset_records", records_without_boxes)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer._hooks = [hook for hook in trainer._hooks if isinstance(hook, DistillationHook)]
    TrainerBase.train(trainer, 0, 1)
    batch = next(iter(trainer._trainer.data_loader))
    assert not any("annotations" in sample for sample in batch)


@META_ARCH_REGISTRY.register()
class ScaledClassifier(MultiLabelClassifier):
    """A classifier of somebody else's."""


@META_ARCH_REGISTRY.register()
class DistilledScaledClassifier(DistilledClassifier):
    """Its distillation."""

    student_architecture = "ScaledClassifier"


def test_any_registered_architecture_trains_and_is_evaluated(root: Path, tmp_path: Path) -> None:
    options = ["MODEL.META_ARCHITECTURE", "ScaledClassifier", "SOLVER.MAX_ITER", 1, "OUTPUT_DIR", tmp_path]
    options += ["DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 4]
    trainer = Trainer(prepare("scenes/cls.yaml", *options))
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert type(trainer.model) is ScaledClassifier
    options[1] = "DistilledScaledClassifier"
    cfg = prepare("scenes/kd.yaml", *options, "MODEL.WEIGHTS", tmp_path / "model_final.pth", stage="prediction",
                  eval_only=True)  # fmt: skip
    assert type(Trainer.build_model(cfg)) is ScaledClassifier
