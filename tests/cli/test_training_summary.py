from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from mlickd.cli.training_summary import next_command, training_summary
from mlickd.config import default_config

CONFIGS = Path(__file__).parents[2] / "configs" / "folder"


def ended(folder: Path, file: str, *options: object) -> CfgNode:
    """Return the configuration of a finished training, and write its files."""
    cfg = default_config()
    cfg.merge_from_file(str(CONFIGS / file))
    cfg.merge_from_list(["DATASETS.TRAIN", ("pets_train",), "DATASETS.TEST", ("pets_test",)])
    cfg.merge_from_list(["OUTPUT_DIR", str(folder), "SOLVER.MAX_ITER", 400, "SOLVER.IMS_PER_BATCH", 16, *options])
    for name in ("config.yaml", "log.txt", "model_final.pth"):
        (folder / name).touch()
    return cfg


def evaluated(folder: Path) -> None:
    metrics = {"mAP": 76.04, "CF1": 66.31, "OF1": 67.5, "top3/CF1": 64.6, "top3/OF1": 64.3, "CP": 1.0}
    aps = {"cat": 90.0, "dog": 80.0, "hen": 70.0, "cow": 60.0, "yak": 50.0, "eel": 40.0, "yeti": None}
    per_class = {name: {"AP": ap} for name, ap in aps.items()}
    path = folder / "inference/pets_test/multilabel_results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"metrics": metrics, "per_class": per_class, "counts": {"images": 120}}))


def test_the_summary_of_a_baseline(tmp_path: Path) -> None:
    cfg = ended(tmp_path, "cls.yaml")
    evaluated(tmp_path)
    text = training_summary(cfg, seconds=312, first_iteration=0, parameters=3_420_000, command="python next.py")
    lines = text.splitlines()
    assert len(lines) <= 24 and all(len(line) <= 79 for line in lines if str(tmp_path) not in line)
    words = " ".join(text.split())
    for part in (
        "Baseline",
        "400 iterations of 16 images of pets_train in 0:05:12; 3.42 million parameters",
        "on pets_test: 120 images, in percent mAP 76.0 CF1 66.3 OF1 67.5 top3/CF1 64.6 top3/OF1 64.3",
        "best AP: cat 90.0, dog 80.0, hen 70.0",
        "worst AP: cow 60.0, yak 50.0, eel 40.0",
        f"files in {tmp_path} model_final.pth the model config.yaml",
        "next python next.py",
    ):
        assert part in words
    assert "student.pth" not in text and "metrics.json" not in text, "only what is there"


def test_a_resumed_stage_1_is_not_evaluated(tmp_path: Path) -> None:
    cfg = ended(tmp_path, "kd.yaml", "KD.STAGE", "feature")
    (tmp_path / "student.pth").touch()
    text = training_summary(cfg, seconds=7261, first_iteration=150, parameters=1, command="")
    assert "Distilled student, stage feature" in text and "iterations 150 to 400" in text and "2:01:01" in text
    assert "not yet" in text and "student.pth      start of stage 2" in text


@pytest.mark.parametrize(
    ("file", "stage", "expected"),
    [
        ("cls.yaml", "", "python tools/predict.py PHOTOS --model {out}"),
        ("kd.yaml", "prediction", "python tools/predict.py PHOTOS --model {out}"),
        (
            "kd.yaml",
            "feature",
            "python tools/train_net.py --config-file {configs}/kd.yaml --kd-stage prediction SEED 3 "
            "OUTPUT_DIR 'my run' DATASETS.TEST '('\"'\"'pets_test'\"'\"',)'",
        ),
        (
            "wsd.yaml",
            "",
            "python tools/train_net.py --config-file {configs}/kd.yaml --kd-stage feature "
            "KD.TEACHER.WEIGHTS {out}/model_final.pth SEED 3 DATASETS.TEST '('\"'\"'pets_test'\"'\"',)' "
            "OUTPUT_DIR {out}_distilled",
        ),
    ],
)
def test_the_next_command_is_the_next_step(tmp_path: Path, file: str, stage: str, expected: str) -> None:
    cfg = ended(tmp_path, file, "KD.STAGE", stage)
    options = ["SEED", "3", "OUTPUT_DIR", "my run", "DATASETS.TEST", "('pets_test',)"]
    found = next_command(cfg, str(CONFIGS / file), options)
    assert found == expected.format(out=tmp_path, configs=CONFIGS)


def test_a_teacher_without_a_method_for_its_student_predicts(tmp_path: Path) -> None:
    cfg = ended(tmp_path, "wsd.yaml")
    shutil.copy(CONFIGS / "wsd.yaml", tmp_path / "wsd.yaml")
    found = next_command(cfg, str(tmp_path / "wsd.yaml"), [])
    assert found == f"python tools/predict.py PHOTOS --model {tmp_path}"


def test_the_student_of_a_teacher_has_its_data_its_seed_and_its_processors(tmp_path: Path) -> None:
    data = ["DATASETS.TRAIN", "pets", "DATASETS.UNLABELED", "more", "DATASETS.PROPOSALS.METHOD", "grid", "SEED", "7"]
    cfg = ended(tmp_path, "wsd.yaml", "OUTPUT_DIR", "output/pets/teacher")
    given = [*data, "SOLVER.MAX_ITER", "9", "OUTPUT_DIR", "output/pets/teacher"]
    found = shlex.split(next_command(cfg, str(CONFIGS / "wsd.yaml"), given, num_gpus=4))
    weights = ["KD.TEACHER.WEIGHTS", "output/pets/teacher/model_final.pth"]
    assert found[4:] == [
        *("--kd-stage", "feature", "--num-gpus", "4"),
        *(*weights, *data, "OUTPUT_DIR", "output/pets/distilled"),
    ]
    assert "OUTPUT_DIR" not in next_command(cfg, str(CONFIGS / "wsd.yaml"), data), "then each has its method's"


def test_stage_2_starts_from_stage_1_whatever_that_started_from(tmp_path: Path) -> None:
    cfg = ended(tmp_path, "kd.yaml", "KD.STAGE", "feature")
    given = ["MODEL.WEIGHTS", "start.pth", "SEED", "7"]
    found = shlex.split(next_command(cfg, str(CONFIGS / "kd.yaml"), given, num_gpus=2))
    assert found[4:] == ["--kd-stage", "prediction", "--num-gpus", "2", "SEED", "7"]
