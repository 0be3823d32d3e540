"""The row of commands that a pipeline runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlickd.errors import InputError
from mlickd.studies import steps
from mlickd.studies.methods import Method
from mlickd.studies.pipeline import Pipeline


def make_pipeline(folder: Path, **others: object) -> Pipeline:
    settings = {"seed": 3, "options": ["SOLVER.MAX_ITER", "5"]} | others
    return Pipeline(Path("configs/folder"), "a_train", "a_test", folder, **settings)


def test_every_step_shares_data_seed_and_options(tmp_path: Path) -> None:
    steps = make_pipeline(tmp_path).training_steps()
    assert [step.name for step in steps] == [
        "teacher",
        "knowledge",
        "baseline",
        "distilled/feature",
        "distilled/prediction",
    ]
    for step in steps:
        command = step.command
        values = dict(zip(command[-2::-2], command[:0:-2], strict=False))
        assert values["DATASETS.TRAIN"] == "('a_train',)"
        assert values.get("SEED") == (None if step.name == "knowledge" else "3"), "a cache hangs on no seed"
        assert values["SOLVER.MAX_ITER"] == "5"
    for stage, step in zip(("feature", "prediction"), steps[3:], strict=True):
        assert step.command[step.command.index("--kd-stage") + 1] == stage
        assert str(tmp_path / "teacher" / "model_final.pth") in step.command
        assert str(tmp_path / "knowledge") in step.command and str(tmp_path / "knowledge") in steps[1].command
        left = {"feature": "student.pth", "prediction": "results.json"}[stage]
        assert step.result == tmp_path / "distilled" / stage / left


def test_a_finished_teacher_is_taken_as_it_is(tmp_path: Path) -> None:
    steps = make_pipeline(tmp_path, teacher=tmp_path / "other").training_steps()
    assert [step.name for step in steps] == ["knowledge", "baseline", "distilled/feature", "distilled/prediction"]
    distilled = [step for step in steps if step.name != "baseline"]
    assert all(str(tmp_path / "other" / "model_final.pth") in step.command for step in distilled)
    assert all(str(tmp_path.parent / "knowledge") in step.command for step in distilled), "all seeds share it"


def test_each_stage_waits_for_and_reads_what_the_one_before_it_left(tmp_path: Path) -> None:
    pipeline = make_pipeline(tmp_path)
    feature, prediction = pipeline.student_steps(pipeline.methods[1])
    assert [step.key for step in prediction.after] == [feature.key]
    assert feature.result in prediction.reads and feature.result not in feature.reads
    assert [step.name for step in feature.after] == ["knowledge"]
    (plain,) = pipeline.student_steps(pipeline.methods[0])
    assert not plain.after and not plain.reads, "the baseline needs neither teacher nor proposals"


def test_methods_share_a_cache_where_they_can_and_name_the_others(tmp_path: Path) -> None:
    folder = Path("configs/folder")
    methods = [
        Method("one", folder / "kd.yaml", ("prediction",), (5,), "teacher"),
        Method("distilled", folder / "kd.yaml", ("feature", "prediction"), (5, 5), "teacher"),
        Method("other", folder / "kd.yaml", ("prediction",), (5,), "other regions"),
    ]
    pipeline = make_pipeline(tmp_path, methods=methods)
    shared, own = pipeline.knowledge_steps()
    assert shared.makes == tmp_path / "knowledge" and own.makes == tmp_path / "knowledge-other"
    also = shared.command.index("--also-for")
    assert shared.command[also - 1 : also + 2] == [str(folder / "kd.yaml"), "--also-for", str(folder / "kd.yaml")]
    assert "--also-for" not in own.command
    assert [step.name for step in pipeline.student_steps(methods[0])] == ["one/prediction"]
    assert str(own.makes) in pipeline.student_steps(methods[2])[0].command


def test_a_method_with_a_teacher_of_its_own_waits_for_no_other(tmp_path: Path) -> None:
    file, stages = Path("configs/folder/kd.yaml"), ("feature", "prediction")
    parts, teachers = ("a_train@1of2", "a_train@2of2"), str(tmp_path / "{dataset}" / "model_final.pth")
    methods = [
        Method("distilled", file, stages, (5, 5), "teacher"),
        Method("crossed", file, stages, (5, 5), "parts", train=parts, teacher=teachers, unlabeled=("more_photos",)),
        Method("kept", file, stages, (5, 5), "kept", train=parts, teacher=teachers, cache=str(tmp_path / "there")),
    ]
    pipeline = make_pipeline(tmp_path, methods=methods)
    assert "more_photos" in pipeline.proposal_step().command
    assert [step.name for step in pipeline.knowledge_steps()] == ["knowledge", "knowledge-crossed"]
    knowledge = pipeline.knowledge_steps()[1]
    assert [step.name for step in knowledge.after] == ["proposals"]
    assert {tmp_path / part / "model_final.pth" for part in parts} < set(knowledge.reads)
    assert "more_photos" in str(knowledge.result) and str(parts) in knowledge.command
    assert knowledge.datasets == [*parts, "more_photos"]
    crossed, kept = (pipeline.student_steps(method) for method in methods[1:])
    for step in (*crossed, *kept):
        values = dict(zip(step.command[-2::-2], step.command[:0:-2], strict=False))
        assert values["DATASETS.TRAIN"] == str(parts) and values["KD.TEACHER.WEIGHTS"] == teachers
        assert tmp_path / parts[1] / "model_final.pth" in step.reads
    assert not kept[0].after and str(tmp_path / "there") in kept[0].command
    assert tmp_path / "there" / parts[0] in kept[0].reads


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("SEED", "--seeds"),
        ("OUTPUT_DIR", "--output"),
        ("KD.TEACHER.WEIGHTS", "--teacher"),
        ("KD.CACHE", "--output"),
        ("DATASETS.TRAIN", "--train"),
        ("DATASETS.TEST", "--test"),
        ("DATASETS.PROPOSALS.METHOD", "--proposals"),
    ],
)
def test_what_makes_runs_different_is_no_option_for_all(tmp_path: Path, key: str, instead: str) -> None:
    with pytest.raises(InputError, match=f"{key} is set for each run; leave it out, and give {instead}$"):
        make_pipeline(tmp_path, options=["SOLVER.MAX_ITER", "5", key, "5"])
    make_pipeline(tmp_path, options=["DATASETS.PROPOSALS.TOP_K", "40"])


def test_options_come_before_what_a_run_sets_itself(tmp_path: Path) -> None:
    for step in make_pipeline(tmp_path).training_steps():
        assert step.command.index("SOLVER.MAX_ITER") < step.command.index("DATASETS.TRAIN")


def test_the_same_folders_in_another_spelling_make_the_same_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "data_digest", lambda name, root: name)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model_final.pth").touch()
    root, digests = Path.cwd(), []
    for start, configs, folder in (
        (root, Path("configs/folder"), tmp_path / "out"),
        (tmp_path, root / "configs" / "folder", Path("out")),
        (tmp_path / "other", root / "tests" / ".." / "configs" / "folder", Path("..") / "out"),
    ):
        monkeypatch.chdir(start)
        pipeline = Pipeline(configs, "a_train", "a_test", folder, tools=Path(os.path.relpath(root / "tools")))
        digests.append({step.key: steps.step_digest(step) for step in pipeline.training_steps()})
        teacher = Path(os.path.relpath(tmp_path / "other"))
        pipeline = Pipeline(configs, "a_train", "a_test", folder, teacher=teacher, tools=root / "tools")
        digests[-1] |= {("taught", step.key): steps.step_digest(step) for step in pipeline.training_steps()}
    assert digests[0] == digests[1] == digests[2] and len(digests[0]) == 9
