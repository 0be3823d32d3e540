"""Training images of the teachers in cross-fitting, and images of their knowledge."""

import ast
import os
from pathlib import Path

import numpy as np
import pytest

from mlickd.data import dataset_records, proposals_path, write_store
from mlickd.data.proposals.store import image_list_digest
from mlickd.engine import load_config
from mlickd.errors import InputError
from mlickd.studies.cross_fitting import cross_fitting_jobs
from mlickd.studies.jobs import Job, jobs_to_run

pytestmark = pytest.mark.usefixtures("without_proposals")
SCENES = Path(__file__).parents[2] / "configs" / "scenes"


def jobs(folder: Path, *options: str, **changes: object) -> list[Job]:
    arguments = {"teacher_config": SCENES / "wsd.yaml", "kd_config": SCENES / "kd.yaml", "dataset": "tiny_train"}
    arguments |= {"num_parts": 3, "options": options, "output": folder / "out"}
    return cross_fitting_jobs(**{**arguments, **changes})


def test_no_teacher_has_seen_the_images_of_its_knowledge(tiny_scenes: Path, tmp_path: Path) -> None:
    *teachers, knowledge = jobs(tmp_path, "SOLVER.MAX_ITER", "5", "DATASETS.TRAIN", "('elsewhere',)")
    cfg = load_config(str(tmp_path / "out" / "kd.yaml"), [])
    assert len(cfg.DATASETS.TRAIN) == len(teachers) == 3 and cfg.SOLVER.MAX_ITER == 5
    assert knowledge.folder == Path(cfg.KD.CACHE) and str(tmp_path / "out" / "kd.yaml") in knowledge.command
    for part, teacher in zip(cfg.DATASETS.TRAIN, teachers, strict=True):
        given = dict(zip(teacher.command[3::2], teacher.command[4::2], strict=True))
        (seen,) = ast.literal_eval(given["DATASETS.TRAIN"])
        ids = [{record["image_id"] for record in dataset_records(name)} for name in (seen, part)]
        assert ids[0].isdisjoint(ids[1]) and len(ids[0] | ids[1]) == 24
        assert given["DATASETS.TEST"] == f"('{part}',)" and given["SOLVER.MAX_ITER"] == "5"
        # Replacing `{dataset}` gives the path of this teacher.
        weights = Path(cfg.KD.TEACHER.WEIGHTS.replace("{dataset}", part))
        assert weights.parent == Path(given["OUTPUT_DIR"]) == teacher.folder and weights in knowledge.inputs
    first = jobs_to_run([*teachers, knowledge])[0].shell_command
    assert first.endswith("generate-proposals --method edge_boxes --dataset tiny_train")


def test_a_part_of_a_dataset_has_the_proposals_of_the_whole(tiny_scenes: Path, tmp_path: Path) -> None:
    records = dataset_records("tiny_train")
    items = [(record["image_id"], np.array([[0.0, 0, 9, 9]]), np.ones(1)) for record in records]
    write_store(proposals_path("tiny_train", "mine"), items, "mine", {}, image_list_digest(records))
    options = ("DATASETS.PROPOSALS.METHOD", "mine")
    found = jobs_to_run(jobs(tmp_path, *options, dataset="tiny_train@not1of4", num_parts=2))
    assert [job.command[0] for job in found] == ["train", "train", "cache-knowledge"]


def test_proposals_of_a_read_only_folder_go_to_the_output(tiny_scenes: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: not Path(path).is_relative_to(tiny_scenes))
    proposals, *teachers, _ = jobs_to_run(jobs(tmp_path, "DATASETS.PROPOSALS.METHOD", "grid"))
    files = (str(tmp_path / "out" / "proposals-tiny_train-grid"),)
    assert proposals.command[-2:] == ["--output", *files]
    for teacher in teachers:
        given = dict(zip(teacher.command[3::2], teacher.command[4::2], strict=True))
        assert given["DATASETS.PROPOSALS.TRAIN_FILES"] == given["DATASETS.PROPOSALS.TEST_FILES"] == str(files)
    assert load_config(str(tmp_path / "out" / "kd.yaml"), []).DATASETS.PROPOSALS.TRAIN_FILES == 3 * files
    files = (str(tmp_path / "given"),)
    teacher, *_ = jobs_to_run(jobs(tmp_path, "DATASETS.PROPOSALS.TRAIN_FILES", str(files)))
    assert teacher.command[-5] == teacher.command[-3] == str(files)
    assert load_config(str(tmp_path / "out" / "kd.yaml"), []).DATASETS.PROPOSALS.TRAIN_FILES == 3 * files


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "tiny_trian"}, "tiny_trian"),
        ({"teacher_config": SCENES / "cls.yaml"}, "cls.yaml: MODEL.META_ARCHITECTURE"),
        ({"kd_config": SCENES / "wsd.yaml"}, "wsd.yaml: MODEL.META_ARCHITECTURE"),
        ({"kd_config": SCENES / "cls.yaml"}, "--kd-config .*cls.yaml"),
        ({"options": ["DATASETS.UNLABELED", "('tiny_test',)"]}, "DATASETS.UNLABELED"),
        ({"options": ["DATASETS.PROPOSALS.TRAIN_FILES", "('x', 'y')"]}, "DATASETS.PROPOSALS.TRAIN_FILES"),
    ],
)
def test_bad_input_stops_before_the_first_job(tiny_scenes: Path, tmp_path: Path, changes, message) -> None:
    with pytest.raises(InputError, match=message):
        jobs(tmp_path, **changes)
    assert not list(tmp_path.iterdir())
