"""Which photos each teacher of a cross-fitting is trained on, and which it speaks of."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mlickd.data import dataset_records
from mlickd.errors import InputError
from mlickd.studies.cross_fitting import CrossFitting

CONFIGS = Path(__file__).parents[2] / "configs" / "scenes"


def make(folder: Path, *options: str, dataset: str = "tiny_train", count: int = 3) -> CrossFitting:
    return CrossFitting(CONFIGS / "wsd.yaml", CONFIGS / "kd.yaml", dataset, count, folder, options)


def values(command: list[str]) -> dict[str, str]:
    """The ``KEY VALUE`` pairs at the end of a command; the last of a key counts."""
    pairs = list(zip(command[-2::-2], command[:0:-2], strict=False))
    return dict(reversed([pair for pair in pairs if pair[0].isupper() or "." in pair[0]]))


def test_no_teacher_has_seen_what_it_speaks_of(tiny_scenes: Path, tmp_path: Path) -> None:
    cross_fitting = make(tmp_path, "SOLVER.MAX_ITER", "5", "DATASETS.TRAIN", "('elsewhere',)")
    proposals, *teachers, knowledge = cross_fitting.steps()
    assert proposals.command[1:] == ["--dataset", "tiny_train", "--method", "edge_boxes"]
    told = values(knowledge.command)
    parts = ast.literal_eval(told["DATASETS.TRAIN"])
    assert len(parts) == len(teachers) == 3
    for part, teacher in zip(parts, teachers, strict=True):
        given = values(teacher.command)
        (seen,) = ast.literal_eval(given["DATASETS.TRAIN"])
        ids = [{record["image_id"] for record in dataset_records(name)} for name in (seen, part)]
        assert ids[0].isdisjoint(ids[1]) and len(ids[0] | ids[1]) == 24
        assert given["DATASETS.TEST"] == f"('{part}',)" and given["SOLVER.MAX_ITER"] == "5"
        # What `{dataset}` stands for leads to this teacher.
        weights = told["KD.TEACHER.WEIGHTS"].replace("{dataset}", part)
        assert Path(weights).parent == Path(given["OUTPUT_DIR"]) and Path(weights) in knowledge.reads
    student = values(["", *cross_fitting.student_options])
    assert all(student[key] == told[key] for key in ("DATASETS.TRAIN", "KD.TEACHER.WEIGHTS", "KD.CACHE"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 1}, "'tiny_train@1of1': 1 parts; give 2 or more"),
        ({"count": 30}, "tiny_train has 24 images, too few for 30 parts"),
        ({"dataset": "tiny_trian"}, "there is no dataset 'tiny_trian'"),
        (
            {"teacher_config": CONFIGS / "cls.yaml"},
            "--config-file .*cls.yaml: is of a MultiLabelClassifier; give",
        ),
        ({"kd_config": CONFIGS / "wsd.yaml"}, "--kd-config .*wsd.yaml: is of a WeaklySupervisedDetector; give"),
        ({"options": ["DATASETS.PROPOSALS.TRAIN_FILES", "('x',)"]}, "TRAIN_FILES are of one list of datasets"),
        ({"options": ["SOLVER.MAX_ITER"]}, "SOLVER.MAX_ITER"),
    ],
)
def test_what_is_wrong_stops_it_before_the_first_step(tiny_scenes: Path, tmp_path: Path, change, message) -> None:
    cross_fitting = make(tmp_path)
    for name, value in change.items():
        setattr(cross_fitting, name, value)
    with pytest.raises(InputError, match=message):
        cross_fitting.run()
    assert not list(tmp_path.iterdir())


def test_the_same_folder_in_another_spelling_makes_the_same_commands(
    tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [step.command for step in make(tmp_path / "out").steps()]
    monkeypatch.chdir(tmp_path)
    assert [step.command[1:] for step in make(Path("out")).steps()] == [command[1:] for command in whole]
