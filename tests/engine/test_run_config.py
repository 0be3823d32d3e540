"""Configurations of runs: wrong values are named before a run starts, and missing values are filled in."""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.engine.train_loop import TrainerBase
from detectron2.modeling import META_ARCH_REGISTRY

from helpers.cached_scenes import CachedScenes
from helpers.processes import parse_arguments
from helpers.small_models import CONFIGS, save_teacher, teacher_config
from helpers.small_trainer import DATA, final_config, finish
from mlickd.data import dataset_records
from mlickd.distillation import DistillationHook, DistilledClassifier, KnowledgeRequest
from mlickd.engine import Trainer, check_inputs, finalize_config, load_config
from mlickd.engine.run_config import load_cache_config, load_checked_config, resolve_run_config
from mlickd.errors import InputError
from mlickd.modeling import MultiLabelClassifier
from mlickd.modeling.checkpoint import model_blueprint


def prepare(config: str, *options: object, stage: str | None = None, eval_only: bool = False, **how: bool) -> CfgNode:
    cfg = load_config(str(CONFIGS / config), [*DATA, "MODEL.BACKBONE.WEIGHTS", "", *map(str, options)], stage)
    finalize_config(cfg, eval_only=eval_only)
    check_inputs(cfg, eval_only=eval_only, **how)
    return cfg


def save_student(path: Path) -> None:
    """Save a checkpoint of an untrained student of the scenes."""
    student = model_blueprint(load_config(str(CONFIGS / "scenes/cls.yaml"), ["MODEL.NUM_CLASSES", "20"]))
    torch.save({"model": {key: torch.zeros(value.shape) for key, value in student.state_dict().items()}}, path)


def test_classes_device_and_pixel_statistics_are_filled_in(tiny_scenes: Path, tmp_path: Path) -> None:
    cfg = prepare("folder/cls.yaml", "MODEL.TIMM.PRETRAINED", True)
    assert cfg.MODEL.NUM_CLASSES == 20 and cfg.MODEL.TIMM.PRETRAINED
    assert cfg.MODEL.DEVICE == ("cuda" if torch.cuda.is_available() else "cpu")
    assert cfg.MODEL.PIXEL_MEAN == pytest.approx([127.5] * 3)
    torch.save(model_blueprint(cfg).to_empty(device="cpu").state_dict(), tmp_path / "model_final.pth")
    options = ("MODEL.TIMM.PRETRAINED", True, "OUTPUT_DIR", tmp_path)
    evaluated = prepare("folder/cls.yaml", *options, eval_only=True)
    options = ("MODEL.TIMM.PRETRAINED", True, "OUTPUT_DIR", tmp_path / "new")
    started = prepare("folder/cls.yaml", *options, "MODEL.WEIGHTS", tmp_path / "model_final.pth")
    assert not evaluated.MODEL.TIMM.PRETRAINED and not started.MODEL.TIMM.PRETRAINED


def test_a_processor_without_bfloat16_is_named(tiny_scenes: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for processor in ("AVX512", "AVX2"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda name=processor: name)
        with caplog.at_level(logging.WARNING):
            prepare("scenes/cls.yaml", "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16")
        assert ("bfloat16" in caplog.text) == (processor == "AVX2")


def test_stages_have_separate_rates_and_lengths(tiny_scenes: Path) -> None:
    options = ["KD.FEATURE.BASE_LR", 0.5, "KD.FEATURE.MAX_ITER", 7, "KD.FEATURE.WARMUP_ITERS", 0]
    options += ["KD.PREDICTION.MAX_ITER", 0, "SOLVER.MAX_ITER", 9, "SOLVER.BASE_LR", 0.25, "SOLVER.WARMUP_ITERS", 3]
    feature = final_config("scenes/kd.yaml", *DATA, *options, stage="feature").SOLVER
    assert (feature.BASE_LR, feature.MAX_ITER, feature.WARMUP_ITERS) == (0.5, 7, 0)
    options += ["KD.METHOD_STAGES", "('prediction',)"]
    prediction = final_config("scenes/kd.yaml", *DATA, *options, stage="prediction").SOLVER
    assert (prediction.BASE_LR, prediction.MAX_ITER, prediction.WARMUP_ITERS) == (0.25, 9, 3)


def test_the_number_of_iterations_follows_the_number_of_images(tiny_scenes: Path, tmp_path: Path) -> None:
    path = tmp_path / "kd.yaml"

    def iterations(reference: int, *options: object, stage: str = "prediction") -> tuple[int, tuple[int, ...]]:
        values = {"REFERENCE_IMAGES": reference, "MAX_ITER": 10, "STEPS": [4, 8]}
        stages = {"FEATURE": {"MAX_ITER": 3}, "PREDICTION": {"MAX_ITER": 0}}
        path.write_text(yaml.safe_dump({"_BASE_": str(CONFIGS / "scenes/kd.yaml"), "SOLVER": values, "KD": stages}))
        options = (*DATA, "SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.WARMUP_ITERS", 0, *options)
        cfg = load_config(str(path), list(options), stage)
        finalize_config(cfg)
        assert cfg.SOLVER.REFERENCE_IMAGES == 0, "training from the run's configuration must not multiply again"
        return cfg.SOLVER.MAX_ITER, tuple(cfg.SOLVER.STEPS)

    images = len(dataset_records("tiny_train", boxes=False))
    options = ("KD.METHOD_STAGES", ("prediction",))
    assert iterations(0, *options) == iterations(images, *options) == (10, (4, 8))
    assert iterations(images // 2, *options) == (20, (8, 16))
    assert iterations(4 * images, *options) == (10, (4, 8)), "fewer images have more epochs"
    assert iterations(images, *options, "SOLVER.IMS_PER_BATCH", 100 * images) == (2, (1,)), "at most 200 epochs"
    assert iterations(images // 2, *options, "DATASETS.UNLABELED", ("tiny_train",))[0] == 40
    assert iterations(images // 2, stage="feature") == (6, (2, 4)), "the steps of the schedule, scaled to the stage"
    assert iterations(images // 2, *options, "SOLVER.MAX_ITER", 7)[0] == 7


def test_steps_outside_of_the_training_have_no_effect(tiny_scenes: Path) -> None:
    options = [*DATA, *MULTI_STEP, "SOLVER.MAX_ITER", 8, "SOLVER.STEPS", (0, 4, 8, 12)]
    assert final_config("scenes/cls.yaml", *options).SOLVER.STEPS == (4,)


MULTI_STEP = ["SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR"]
VISION_TRANSFORMER = ["MODEL.TIMM.NAME", "vit_tiny_patch16_224", "MODEL.TIMM.OUT_FEATURES", ("stage12",)]
VISION_TRANSFORMER += ["MODEL.CLASSIFIER.IN_FEATURE", "stage12", "MODEL.BACKBONE.WEIGHTS", ""]
EMBEDDINGS = ["KD.FEATURE.DISTILLER", "LabelEmbeddingDistiller", "KD.PREDICTION.FEATURE_LOSS", True]


@pytest.mark.parametrize(
    ("config", "options", "stage", "named"),
    [
        ("cls", ["DATASETS.TEST", "()"], None, "DATASETS.TEST is empty"),
        ("cls", ["MODEL.BACKBONE.WEIGHTS", "nowhere.pth"], None, "MODEL.BACKBONE.WEIGHTS nowhere.pth"),
        ("cls", ["MODEL.BACKBONE.WEIGHTS", "a/student.pth", "OUTPUT_DIR", "a"], None, "BACKBONE.WEIGHTS a.*OUTPUT_DIR"),
        ("cls", [], "feature", "--kd-stage feature"),
        ("kd", [], None, "--kd-stage .missing.*feature or prediction"),
        ("kd", ["KD.METHOD_STAGES", "('prediction',)"], "feature", "--kd-stage feature.*KD.METHOD_STAGES"),
        ("kd", ["OUTPUT_DIR", "no_run"], "prediction", "MODEL.WEIGHTS.*no_run.feature.student.pth"),
        ("kd", [*EMBEDDINGS, "SOLVER.GRAD_ACCUM_STEPS", 2], "prediction", "SOLVER.GRAD_ACCUM_STEPS 2"),
        ("cls", ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], None, "MODEL.META_ARCHITECTURE"),
        ("cls", ["MODEL.BACKBONE.NAME", "build_nothing"], None, "MODEL.BACKBONE.NAME"),
        ("cls", ["SOLVER.BASE_LR", "1e999"], None, "SOLVER.BASE_LR"),
        ("cls", ["SOLVER.NESTEROV", True, "SOLVER.MOMENTUM", 0.0], None, "SOLVER.MOMENTUM"),
        ("cls", ["SOLVER.WEIGHT_DECAY_BIAS", "x"], None, "SOLVER.WEIGHT_DECAY_BIAS"),
        ("cls", ["OUTPUT_DIR", ""], None, "OUTPUT_DIR .*must be"),
        ("cls", ["TEST.PRECISE_BN.ENABLED", True], None, "TEST.PRECISE_BN.ENABLED True"),
        ("cls", ["DATASETS.TRAIN", (2012,)], None, "DATASETS.TRAIN"),
        ("cls", ["SOLVER.GRAD_ACCUM_STEPS", 1000], None, "SOLVER.GRAD_ACCUM_STEPS"),
        ("cls", ["SEED", 2**32], None, "SEED"),
        ("cls", ["MODEL.DEVICE", "nothing"], None, "MODEL.DEVICE"),
        ("cls", ["MODEL.PIXEL_STD", [1.0, 0.0, 1.0]], None, "MODEL.PIXEL_STD"),
        ("cls", ["DATASETS.UNLABELED", ("tiny_test",)], None, "DATASETS.UNLABELED"),
        ("cls", ["INPUT.SIZES_TRAIN", ()], None, "INPUT.SIZES_TRAIN"),
        ("cls", ["INPUT.CROP.ENABLED", True], None, "INPUT.CROP.ENABLED True .* INPUT.RANDOM_CROP"),
        ("cls", ["INPUT.RANDOM_CROP.AREA", (0.5, 1.1)], None, "INPUT.RANDOM_CROP.AREA"),
        ("cls", ["MODEL.LABEL_LOSS.GAMMA_NEG", 0.5], None, "MODEL.LABEL_LOSS.GAMMA_NEG"),
        ("cls", ["SOLVER.STEPS", (8, 6), "SOLVER.MAX_ITER", 9, *MULTI_STEP], None, "SOLVER.STEPS"),
        ("cls", ["SOLVER.BASE_LR_END", 9.0, "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"], None, "BASE_LR_END"),
        ("cls", ["SOLVER.REFERENCE_WORLD_SIZE", 2], None, "SOLVER.REFERENCE_WORLD_SIZE 2"),
        ("cls", VISION_TRANSFORMER, None, "the backbone does not accept images of 112 pixels"),
        ("kd", ["KD.FEATURE.MAX_ITER", -1], "feature", "KD.FEATURE.MAX_ITER"),
        ("kd", ["MODEL.BACKBONE.FROZEN", True], "feature", "MODEL.BACKBONE.FROZEN"),
        ("kd", ["DATASETS.UNLABELED", ("tiny_test",), "SOLVER.IMS_PER_BATCH", 1], "prediction", "UNLABELED_SHARE"),
        ("wsd", ["MODEL.ROI_HEADS.NAME", "NoHeads"], None, "MODEL.ROI_HEADS.NAME"),
        ("wsd", ["MODEL.ROI_HEADS.NAME", "StandardROIHeads"], None, "StandardROIHeads"),
        ("kd", ["KD.METHOD_STAGES", ("feature",)], None, "KD.METHOD_STAGES"),
    ],
)
def test_missing_or_wrong_input_is_named(tiny_scenes, config: str, options: list, stage: str | None, named: str):
    with pytest.raises(InputError, match=named):
        prepare(f"scenes/{config}.yaml", *options, stage=stage)


def test_a_resumed_run_checks_the_checkpoint_where_it_continues(tiny_scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    shutil.copy(save_teacher(tmp_path), folder / "model_0000001.pth")
    (folder / "model_0000003.pth").write_bytes(b"damaged")
    (folder / "last_checkpoint").write_text("model_0000003.pth")
    options = ["OUTPUT_DIR", folder, "MODEL.WEIGHTS", tmp_path / "gone.pth"]
    with pytest.raises(InputError, match=r"--resume .*model_0000001\.pth"):
        prepare("scenes/cls.yaml", *options, resume=True)
    with pytest.raises(InputError, match=r"MODEL\.WEIGHTS .*gone\.pth"):
        prepare("scenes/cls.yaml", *options)


def refuse_boxes(boxes: np.ndarray) -> None:
    raise AssertionError("training has read a box")


@pytest.mark.parametrize(("config", "stage"), [("wsd", None), ("cls", None), ("kd", "feature"), ("kd", "prediction")])
def test_training_never_reads_a_box(
    tiny_proposals, tmp_path: Path, monkeypatch, config: str, stage: str | None
) -> None:
    options = ["DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 1]
    options += ["MODEL.WEIGHTS", "", "OUTPUT_DIR", tmp_path / "out", "MODEL.BACKBONE.FREEZE_NORM", False]
    if stage:
        teacher = teacher_config()
        teacher.MODEL.NUM_CLASSES = 20
        options += ["KD.TEACHER.WEIGHTS", save_teacher(tmp_path, teacher), "KD.FEATURE.LAYERS", "('conv5:stride16',)"]
    if stage == "prediction":
        options += ["KD.METHOD_STAGES", "('prediction',)"]
    cfg = prepare(f"scenes/{config}.yaml", *options, stage=stage)
    assert any(record["annotations"] for record in dataset_records("tiny_train"))
    monkeypatch.setattr("mlickd.data.records._unpack_boxes", refuse_boxes)
    with pytest.raises(AssertionError):
        dataset_records("tiny_train")
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer._hooks = [hook for hook in trainer._hooks if isinstance(hook, DistillationHook)]
    TrainerBase.train(trainer, 0, 1)
    batch = next(iter(trainer._trainer.data_loader))
    assert not any("annotations" in sample for sample in batch)


@META_ARCH_REGISTRY.register()
class OtherClassifier(MultiLabelClassifier):
    """A classifier from outside this project."""


@META_ARCH_REGISTRY.register()
class DistilledOtherClassifier(DistilledClassifier):
    """The distillation of ``OtherClassifier``."""

    student_architecture = "OtherClassifier"


def test_a_user_architecture_trains_and_is_evaluated(tiny_scenes: Path, tmp_path: Path) -> None:
    options = ["MODEL.META_ARCHITECTURE", "OtherClassifier", "SOLVER.MAX_ITER", 1, "OUTPUT_DIR", tmp_path]
    options += ["DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 4]
    trainer = Trainer(prepare("scenes/cls.yaml", *options))
    finish(trainer)
    assert type(trainer.model) is OtherClassifier
    options[1] = "DistilledOtherClassifier"
    options += ["MODEL.WEIGHTS", tmp_path / "model_final.pth"]
    cfg = prepare("scenes/kd.yaml", *options, stage="prediction", eval_only=True)
    assert type(Trainer.build_model(cfg)) is OtherClassifier


def record_run(folder: Path, *options: object, base: str = "scenes/kd.yaml", files: tuple[str, ...] = ()) -> Path:
    """Write the configuration of a run, with its folder and the checkpoint where it started."""
    folder.mkdir(parents=True)
    data = [*DATA, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(folder.parent / "start.pth"), "OUTPUT_DIR", str(folder)]
    path = folder / "config.yaml"
    path.write_text(load_config(str(CONFIGS / base), [*data, *options]).dump())
    for name in files:
        save_student(folder / name)
    return path


def evaluated(path: Path, *options: str) -> CfgNode:
    args = parse_arguments("--config-file", path, "--eval-only", *options)
    args.kd_stage = None
    return load_checked_config(args)


def test_a_recorded_run_is_evaluated_with_its_checkpoint(tiny_scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "distilled" / "prediction"
    options = ["KD.STAGE", "prediction", "DATASETS.UNLABELED", "('tiny_train@not1of4',)"]
    path = record_run(folder, *options, files=("student.pth", "model_final.pth"))
    save_student(tmp_path / "distilled" / "start.pth")
    cfg = evaluated(path)
    assert (cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR) == (str(folder / "student.pth"), str(folder / "evaluation"))
    assert cfg.MODEL.META_ARCHITECTURE == "MultiLabelClassifier"
    moved = folder.rename(tmp_path / "moved")
    given = evaluated(moved / "config.yaml", "MODEL.WEIGHTS", str(moved / "model_final.pth"), "OUTPUT_DIR", "elsewhere")
    assert given.MODEL.WEIGHTS == str(moved / "model_final.pth")
    assert given.OUTPUT_DIR == str(Path("elsewhere") / "evaluation")

    plain = record_run(tmp_path / "plain", base="scenes/cls.yaml", files=("model_final.pth",))
    assert evaluated(plain).MODEL.WEIGHTS == str(tmp_path / "plain" / "model_final.pth")
    first = record_run(tmp_path / "feature", "KD.STAGE", "feature", files=("student.pth",))
    with pytest.raises(InputError, match="config.yaml: is stage 1"):
        evaluated(first)
    other = record_run(tmp_path / "config", base="scenes/cls.yaml")
    save_student(tmp_path / "start.pth")
    assert evaluated(other).MODEL.WEIGHTS == str(tmp_path / "start.pth"), "config.yaml does not belong to a run"


def test_a_recorded_run_continues_in_its_folder(tiny_scenes: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "distilled" / "prediction"
    path = record_run(folder, "KD.STAGE", "prediction", files=("last_checkpoint",))
    cfg = load_config(str(path), [])
    resolve_run_config(cfg, str(path), given=[], eval_only=False)
    assert cfg.OUTPUT_DIR == str(tmp_path / "distilled"), "the stage is appended to it"
    assert cfg.MODEL.WEIGHTS == str(tmp_path / "distilled" / "start.pth")
    monkeypatch.chdir(folder)
    resolve_run_config(cfg, "other.yaml,config.yaml", given=[], eval_only=False)
    assert os.path.realpath(cfg.OUTPUT_DIR) == str(folder.parent)


def test_an_evaluation_ignores_mixed_precision_and_the_division_of_a_batch(tiny_scenes: Path, tmp_path: Path) -> None:
    keys = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "float16", "SOLVER.IMS_PER_BATCH", "5"]
    path = record_run(tmp_path / "run", *keys, base="scenes/cls.yaml", files=("model_final.pth",))
    cfg = load_config(str(path), [])
    with pytest.raises(InputError, match="SOLVER.IMS_PER_BATCH 5"):
        finalize_config(cfg.clone(), processes=2)
    with pytest.raises(InputError, match="SOLVER.AMP.DTYPE"):
        finalize_config(cfg.clone(), processes=1)
    resolve_run_config(cfg, str(path), given=[], eval_only=True)
    finalize_config(cfg, eval_only=True, processes=2)
    assert cfg.MODEL.WEIGHTS == str(path.with_name("model_final.pth"))


def test_a_shared_cache_has_the_knowledge_of_all_methods(scenes: CachedScenes, tmp_path: Path) -> None:
    files = []
    for name in ("RoIDistiller", "FitNetsDistiller"):
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(scenes.config("", "x", "KD.FEATURE.DISTILLER", name).dump())
    cfg, request = load_cache_config(str(files[0]), ["MODEL.WEIGHTS", "not read"], [str(files[1])])
    assert cfg.is_frozen() and request == KnowledgeRequest(("conv5",), (("features", "conv5"),))
    for layers in ("nowhere:conv5", "conv5:nowhere", 4):
        with pytest.raises(InputError, match="KD.FEATURE.LAYERS"):
            load_cache_config(str(files[0]), ["KD.FEATURE.LAYERS", (layers,)])
    files[1].write_text(scenes.config("", "x", "KD.REGIONS.TOP_K", 3).dump())
    with pytest.raises(InputError, match=f"--also-for {files[1]}: KD.REGIONS"):
        load_cache_config(str(files[0]), [], [str(files[1])])
    files[1].write_text("KD: 1")
    with pytest.raises(InputError, match=f"--also-for {files[1]}"):
        load_cache_config(str(files[0]), [], [str(files[1])])


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [("kd", [], "kd.yaml: .*KD.CACHE"), ("cls", ["KD.CACHE", "x"], "cls.yaml: .*distillation")],
)
def test_a_configuration_without_distillation_or_cache_is_refused(tiny_scenes, config, options, message) -> None:
    data = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)"]
    with pytest.raises(InputError, match=message):
        load_cache_config(str(CONFIGS / f"scenes/{config}.yaml"), [*data, *options])
