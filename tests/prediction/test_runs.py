from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlickd.config import default_config
from mlickd.errors import InputError
from mlickd.prediction.runs import find_student, find_teacher

TEACHER, STUDENT, DISTILLED = "WeaklySupervisedDetector", "MultiLabelClassifier", "DistilledClassifier"


def write_run(folder: Path, architecture: str, teacher: Path | None = None) -> Path:
    cfg = default_config()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.NUM_CLASSES = architecture, 3
    cfg.KD.TEACHER.WEIGHTS = str(teacher / "model_final.pth") if teacher else ""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "model_final.pth").touch()
    return folder


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    """What a pipeline leaves of one seed."""
    teacher = write_run(tmp_path / "seed1/teacher", TEACHER)
    write_run(tmp_path / "seed1/baseline", STUDENT)
    write_run(tmp_path / "seed1/distilled/prediction", DISTILLED, teacher)
    return tmp_path / "seed1"


def test_the_student_of_a_folder_is_that_with_distillation(seed: Path) -> None:
    for folder in (seed, seed / "distilled", seed / "distilled/prediction"):
        assert find_student(folder) == seed / "distilled/prediction"
    assert find_student(seed / "baseline") == seed / "baseline"
    assert find_student(seed / "model.onnx") == seed / "model.onnx", "what is no folder is left to who loads it"


def test_the_teacher_is_the_run_itself_or_that_of_the_student(seed: Path) -> None:
    teacher = seed / "teacher"
    assert find_teacher(seed) == find_teacher(teacher) == (teacher, None)
    assert find_teacher(seed / "distilled/prediction") == (teacher / "model_final.pth", teacher / "config.yaml")


def test_what_is_not_there_is_one_line_with_what_is(seed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name one of the 3 runs below it, such as .*prediction, .*seed1/teacher"):
        find_student(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="config.yaml: no such file; name the OUTPUT_DIR of a finished run"):
        find_student(tmp_path / "empty")
    with pytest.raises(InputError, match="--teacher: .*baseline is of a student that had no teacher"):
        find_teacher(seed / "baseline")
    with pytest.raises(InputError, match="--teacher: .*model.onnx is no folder"):
        find_teacher(seed / "model.onnx")
    (seed / "teacher/config.yaml").unlink()
    with pytest.raises(InputError, match="has learned from .*model_final.pth, and .*config.yaml is not there"):
        find_teacher(seed / "distilled/prediction")


def test_a_teacher_of_several_seeds_lies_above_them(tmp_path: Path) -> None:
    teacher = write_run(tmp_path / "teacher", TEACHER)
    write_run(tmp_path / "seed1/distilled/prediction", DISTILLED, teacher)
    write_run(tmp_path / "seed1/distilled/feature", DISTILLED, teacher)
    for folder in ("seed1", "seed1/distilled"):
        assert find_teacher(tmp_path / folder) == (teacher / "model_final.pth", teacher / "config.yaml")
    with pytest.raises(InputError, match="name one of the 2 runs below it") as error:
        find_student(tmp_path)
    assert "feature" not in str(error.value), "stage 1 leaves nothing to use"


def test_the_teacher_of_a_student_is_the_checkpoint_that_it_learned_from(tmp_path: Path) -> None:
    teacher = write_run(tmp_path / "teacher", TEACHER)
    early, other = teacher / "model_0000049.pth", tmp_path / "elsewhere.yaml"
    run = write_run(tmp_path / "student", DISTILLED, teacher)
    config = (run / "config.yaml").read_text()

    def learned_from(weights: Path, config_file: Path | str = "") -> None:
        changed = config.replace(str(teacher / "model_final.pth"), str(weights))
        (run / "config.yaml").write_text(changed.replace("CONFIG_FILE: ''", f"CONFIG_FILE: '{config_file}'"))

    learned_from(early)
    with pytest.raises(InputError, match="model_0000049.pth, and .*model_0000049.pth is not there"):
        find_teacher(run)
    early.touch()
    assert find_teacher(run) == (early, teacher / "config.yaml")
    shutil.copy(teacher / "config.yaml", other)
    learned_from(early, other)
    assert find_teacher(run) == (early, other)
    learned_from(tmp_path / "{dataset}" / "model_final.pth")
    with pytest.raises(InputError, match="has learned from several teachers"):
        find_teacher(run)
