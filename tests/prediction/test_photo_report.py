"""Photos and models that the arguments of a command name."""

from pathlib import Path

import pytest

from mlickd.config import default_config
from mlickd.errors import InputError
from mlickd.prediction.photo_report import find_photos
from mlickd.prediction.trained_models import find_student, find_teacher

TEACHER, STUDENT, DISTILLED = "WeaklySupervisedDetector", "MultiLabelClassifier", "DistilledClassifier"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["b.png", "a.jpg", "b.png"], ["b.png", "a.jpg"]),
        (["[x].jpg"], ["[x].jpg"]),
        (["gone.jpg"], ["gone.jpg"]),
        (["-", "a.jpg"], ["trip/c.JPG", "a.jpg", "with space.jpg"]),
        (["*.gif"], None),
        (["empty"], None),
    ],
)
def test_photos_are_files_folders_patterns_or_a_list(tmp_path: Path, monkeypatch, names: list, found: list | None):
    files = "a.jpg", "b.png", "notes.txt", "trip/c.JPG", "trip/.hidden.jpg", "trip/day/d.jpg", "trip/phone.HEIC"
    for name in (*files, "[x].jpg", "empty/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    listed = ["trip/c.JPG\n", "\n", "a.jpg\r\n", "a.jpg\0with space.jpg\0"]
    if found is not None:
        assert find_photos(names, listed) == found
    else:
        with pytest.raises(InputError, match=f"{names[0].replace('*', '.')}: no image"):
            find_photos(names)


def write_run(folder: Path, architecture: str, teacher: Path | None = None) -> Path:
    cfg = default_config()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.NUM_CLASSES = architecture, 3
    cfg.KD.TEACHER.WEIGHTS = str(teacher or "")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "model_final.pth").touch()
    return folder


def test_a_folder_with_a_study_has_a_distilled_student(tmp_path: Path) -> None:
    run = write_run(tmp_path / "seed1/distilled/prediction", DISTILLED)
    for folder in (tmp_path / "seed1", run.parent, run):
        assert find_student(folder) == run
    assert find_student(tmp_path / "model.onnx") == tmp_path / "model.onnx"
    write_run(tmp_path / "seed1/distilled/feature", DISTILLED)
    with pytest.raises(InputError, match=f"config.yaml: .* {run}"):
        find_student(tmp_path)
    with pytest.raises(InputError, match="empty.config.yaml: no such file"):
        (tmp_path / "empty").mkdir()
        find_student(tmp_path / "empty")


def test_the_teacher_of_a_folder_is_next_to_the_student_or_in_its_configuration(tmp_path: Path) -> None:
    # Next to the student, in the folder of one seed.
    teacher = write_run(tmp_path / "seed1/teacher", TEACHER)
    final = teacher / "model_final.pth"
    run = write_run(tmp_path / "seed1/distilled/prediction", DISTILLED, final)
    assert find_teacher(tmp_path / "seed1") == find_teacher(teacher) == teacher
    assert find_teacher(run) == find_teacher(run / "model_final.pth") == final
    assert find_teacher(final) == final
    write_run(tmp_path / "seed1/baseline", STUDENT)
    (tmp_path / "comparison.json").write_text('{"chosen": "seed1/baseline"}')
    assert find_teacher(tmp_path) == teacher
    shared = write_run(tmp_path / "teacher", TEACHER)
    assert find_teacher(write_run(tmp_path / "seed3/baseline", STUDENT)) == shared
    # In another folder, because seeds share it.
    write_run(tmp_path / "seed2/distilled/prediction", DISTILLED, final)
    assert find_teacher(tmp_path / "seed2") == final
    for weights in (teacher / "model_0000049.pth", tmp_path / "{dataset}/model_final.pth", None):
        with pytest.raises(InputError, match=f"--teacher: {run}"):
            find_teacher(write_run(run, DISTILLED, weights))
