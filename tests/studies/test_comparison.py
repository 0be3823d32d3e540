"""Methods by seeds: what is run, what is run again, and what is left."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from helpers.quick_tools import QuickTools
from mlickd.data import proposals_path
from mlickd.errors import InputError
from mlickd.studies.comparison import Comparison
from mlickd.studies.comparison_report import write_comparison_report
from mlickd.studies.methods import choose_methods, write_method_file

SCENES = Path(__file__).parents[2] / "configs" / "scenes"
SKILLS = {"teacher": 0.5, "baseline": 0.2, "distilled": 0.3, "light": 0.25}


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """The configurations of `scenes` with one more method."""
    folder = tmp_path / "configs"
    (folder / "methods").mkdir(parents=True)
    for name in ("wsd", "cls", "kd"):
        (folder / f"{name}.yaml").write_text(f'_BASE_: "{SCENES / f"{name}.yaml"}"\n')
    (folder / "methods" / "light.yaml").write_text('_BASE_: "../kd.yaml"\nKD: {METHOD_STAGES: ["prediction"]}\n')
    return folder


@pytest.fixture
def tools(tiny_scenes: Path, tmp_path: Path) -> QuickTools:
    """Quick command lines, for two seeds."""
    cached = "{cache}/{dataset}/00000-of-00001.safetensors"
    tools = QuickTools(tmp_path / "tools", "tiny_test", cached, proposals_path("tiny_test", "edge_boxes"))
    for method, skill in SKILLS.items():
        for seed in (1, 2):
            tools.add_results(method, seed, skill)
    return tools


def compare(configs: Path, tools: QuickTools, methods: list[str] = (), **others: object) -> Comparison:
    settings = {"seeds": [1, 2], "options": [], "folder": configs.parent / "out"} | others
    methods = choose_methods(configs, methods, settings["options"])
    return Comparison(configs, "tiny_train", "tiny_test", methods=methods, tools=tools.folder, **settings)


def write_and_read(comparison: Comparison) -> dict:
    """Write the report, and read its JSON."""
    write_comparison_report(comparison)
    return json.loads((comparison.folder / "comparison.json").read_text())


def test_what_has_ended_is_not_run_again_for_one_more_method_or_seed(configs: Path, tools: QuickTools) -> None:
    compare(configs, tools, ["baseline", "distilled"], seeds=[1]).run()
    assert tools.calls() == ["baseline 1", "distilled/feature 1", "distilled/prediction 1", "teacher 1"]
    comparison = compare(configs, tools)
    assert len(comparison.commands_to_run()) == 6, "with both methods, seed 2 and a larger cache"
    comparison.run(jobs=2, threads=1)
    new = ["baseline 2", "distilled/feature 2", "distilled/prediction 2", "light/prediction 1", "light/prediction 2"]
    assert tools.calls() == new, "the teacher is that of the first seed"
    assert comparison.commands_to_run() == []
    comparison.run()
    assert tools.calls() == []
    # How a run was made stays with it.
    content = write_and_read(comparison)
    ran = {(run["method"], run["seed"]): run["ran"].values() for run in content["runs"]}
    assert {run: {(step["at_once"], step["threads"]) for step in steps} for run, steps in ran.items()} == {
        ("teacher", 1): {(1, 0)}, ("baseline", 1): {(1, 0)}, ("distilled", 1): {(1, 0)}, ("light", 1): {(2, 1)},
        ("baseline", 2): {(2, 1)}, ("distilled", 2): {(2, 1)}, ("light", 2): {(2, 1)},
    }  # fmt: skip
    assert len(ran["distilled", 2]) == 2, "both stages"
    assert (
        "in one go, one at a time or up to 2 at once with 1 thread each."
        in (comparison.folder / "comparison.md").read_text()
    )


def test_another_option_or_teacher_runs_again_what_hangs_on_it(configs: Path, tools: QuickTools) -> None:
    compare(configs, tools, ["baseline", "distilled"], seeds=[1]).run()
    tools.calls()
    (configs / "kd.yaml").write_text(f'_BASE_: "{SCENES / "kd.yaml"}"\nKD: {{FEATURE: {{WEIGHT: 0.5}}}}\n')
    comparison = compare(configs, tools, ["baseline", "distilled"], seeds=[1])
    assert [outcome.changed for outcome in comparison.students()] == [False, True]
    comparison.run()
    assert [outcome.changed for outcome in comparison.students()] == [False, False]
    assert tools.calls() == ["distilled/feature 1", "distilled/prediction 1"]
    other = tools.folder / "other"
    other.mkdir()
    (other / "model_final.pth").write_text("another")
    compare(configs, tools, ["baseline", "distilled"], seeds=[1], teacher=other).run()
    assert tools.calls() == ["distilled/feature 1", "distilled/prediction 1"]
    compare(configs, tools, ["baseline", "distilled"], seeds=[1], options=["SOLVER.BASE_LR", "0.5"]).run()
    assert tools.calls() == ["baseline 1", "distilled/feature 1", "distilled/prediction 1", "teacher 1"]


def test_each_seed_can_have_its_teacher(configs: Path, tools: QuickTools) -> None:
    comparison = compare(configs, tools, ["baseline", "distilled"], teacher_per_seed=True)
    comparison.run(jobs=2)
    assert [call for call in tools.calls() if "teacher" in call] == ["teacher 1", "teacher 2"]
    assert [outcome.seed for outcome in comparison.teachers()] == [1, 2]
    second = next(step for step in comparison.steps() if step.key.endswith("seed2/distilled/feature"))
    assert str(comparison.folder / "seed2" / "teacher" / "model_final.pth") in second.command
    assert [step.name for step in comparison.steps()].count("proposals") == 1


def test_a_failed_run_is_marked_and_tried_again(configs: Path, tools: QuickTools) -> None:
    tools.fail("light", 2)
    comparison = compare(configs, tools)
    comparison.run()
    text, failures = write_comparison_report(comparison)
    log = comparison.folder / "seed2" / "logs" / "light_prediction.log"
    assert len(failures) == 1 and failures[0].startswith("light (seed 2): Student light, stage prediction has failed")
    assert failures[0].endswith(f"error: SOLVER.BASE_LR too high, loss is NaN (see {log})") and failures[0] in text
    (row,) = [line for line in text.splitlines() if line.startswith("| light ") and "failed" in line]
    assert "1; failed: 2" in row
    runs = json.loads((comparison.folder / "comparison.json").read_text())["runs"]
    assert {(run["method"], run["seed"]): run["status"] for run in runs}[("light", 2)] == "failed"
    tools.calls()
    tools.fail("light", 2, fails=False)
    comparison.run()
    assert tools.calls() == ["light/prediction 2"]
    assert write_comparison_report(comparison)[1] == []


def test_a_failed_teacher_leaves_the_student_without(configs: Path, tools: QuickTools) -> None:
    tools.fail("teacher", 1)
    comparison = compare(configs, tools, ["baseline", "distilled"])
    comparison.run(jobs=2)
    text, failures = write_comparison_report(comparison)
    assert len(failures) == 1 and failures[0].startswith(
        "teacher (seed 1), distilled (seed 1), distilled (seed 2): Teacher has"
    )
    status = {(outcome.name, outcome.seed): outcome.status for outcome in comparison.students()}
    assert status == {
        ("baseline", 1): "done",
        ("baseline", 2): "done",
        ("distilled", 1): "failed",
        ("distilled", 2): "failed",
    }
    assert "no pair" in text and not (comparison.folder / "classes.png").exists()


def test_a_failure_of_an_earlier_step_is_that_of_a_run_that_had_ended(configs: Path, tools: QuickTools) -> None:
    comparison = compare(configs, tools, ["baseline", "distilled"], seeds=[1])
    comparison.run()
    (configs / "kd.yaml").write_text(f'_BASE_: "{SCENES / "kd.yaml"}"\nKD: {{FEATURE: {{WEIGHT: 0.5}}}}\n')
    tools.fail("distilled", 1)
    comparison.run()
    text, failures = write_comparison_report(comparison)
    assert len(failures) == 1 and failures[0] in text
    assert failures[0].startswith("distilled (seed 1): Distilled student, stage feature has failed")
    (run,) = [run for run in comparison.students() if run.name == "distilled"]
    assert run.status == "failed" and run.report is None


def test_the_same_comparison_in_another_spelling_has_nothing_to_run(
    configs: Path, tools: QuickTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(configs, tools, ["baseline", "distilled"], seeds=[1]).run()
    root = configs.parent
    for start, here in ((root, Path(".")), (configs, Path("..")), (root, root / "configs" / "..")):
        monkeypatch.chdir(start)
        tools.folder = here / "tools"
        again = compare(here / "configs", tools, ["baseline", "distilled"], seeds=[1], folder=here / "out")
        assert again.commands_to_run() == []


def test_the_report_has_the_figures_of_the_runs(configs: Path, tools: QuickTools) -> None:
    comparison = compare(configs, tools)
    comparison.run()
    text, _ = write_comparison_report(comparison, published="coco", command="python tools/compare.py")
    assert "published (paper, VGG16, 224 px) All mAP" in text and "70.9" in text
    content = json.loads((comparison.folder / "comparison.json").read_text())
    reports = {
        (method, seed): json.loads(
            (tools.folder / f"results {method} {seed}/inference/tiny_test/multilabel_results.json").read_text()
        )
        for method in SKILLS
        for seed in (1, 2)
    }
    gains = [
        reports["distilled", seed]["metrics"]["mAP"] - reports["baseline", seed]["metrics"]["mAP"] for seed in (1, 2)
    ]
    summary = content["summary"]["distilled"]["mAP"]
    assert summary["difference"]["mean"] == pytest.approx(np.mean(gains))
    # t of one degree of freedom at 97.5%.
    half = 12.7062 * np.std(gains, ddof=1) / 2**0.5
    assert summary["difference"]["high"] == pytest.approx(np.mean(gains) + half, rel=1e-4)
    for run in content["runs"]:
        assert run["metrics"] == reports[run["method"], run["seed"]]["metrics"]
    assert content["runs"][0]["method"] == "teacher" and len(content["runs"]) == 7
    assert content["methods"]["distilled"]["iterations"] == [60, 340] and content["protocol"]["topk"] == 3
    assert any("--also-for" in command for command in content["commands"].values())
    with open(comparison.folder / "comparison.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert float(rows["distilled"]["mAP difference"]) == pytest.approx(np.mean(gains), abs=1e-3)
    assert content["summary"]["teacher"]["mAP"]["difference"] is None
    page = (comparison.folder / "comparison.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    for chart in ("classes.png", "precision_recall.png", "curves.png"):
        assert (comparison.folder / chart).stat().st_size > 1000


def test_a_table_can_be_written_before_anything_has_run(configs: Path, tools: QuickTools) -> None:
    comparison = compare(configs, tools, ["baseline", "distilled"])
    text, failures = write_comparison_report(comparison)
    assert failures == [] and text.count("not run: 1, 2") == 2
    assert (comparison.folder / "comparison.html").exists()


def test_changed_runs_are_named_and_those_of_another_protocol_refused(configs: Path, tools: QuickTools) -> None:
    comparison = compare(configs, tools, ["baseline", "distilled"], seeds=[1])
    comparison.run()
    path = comparison.folder / "seed1/distilled/prediction/inference/tiny_test/multilabel_results.json"
    (configs / "cls.yaml").write_text(f'_BASE_: "{SCENES / "cls.yaml"}"\nSOLVER: {{BASE_LR: 0.5}}\n')
    text, _ = write_comparison_report(comparison)
    assert "something that has changed since, and run again next time: baseline (seed 1)." in text
    (row,) = [line for line in text.splitlines() if line.startswith("| baseline ")]
    assert row.count("| changed ") == 5 and "changed: 1" in row, "what is of something else is in no mean"
    content = json.loads((comparison.folder / "comparison.json").read_text())
    assert "mean" not in content["summary"]["baseline"]["mAP"] and content["summary"]["distilled"]["mAP"]["mean"] > 0
    assert content["summary"]["distilled"]["mAP"]["difference"] is None, "nor has it a pair"
    report = json.loads(path.read_text())
    path.write_text(json.dumps(report | {"protocol": report["protocol"] | {"ap": "voc07"}}))
    with pytest.raises(InputError, match="multilabel_results.json: another protocol than"):
        write_comparison_report(comparison)
    path.write_text(json.dumps(report | {"data": report["data"] | {"sha256": "other labels"}}))
    with pytest.raises(InputError, match="multilabel_results.json: other images, labels or classes than"):
        write_comparison_report(comparison)


def test_what_cannot_be_compared_stops_before_work(configs: Path, tools: QuickTools) -> None:
    cases = [
        ({"seeds": [1, 1]}, "--seeds 1,1: name at least one, and each once"),
        ({"teacher": configs}, "--teacher .*: there is no model_final.pth"),
        ({"options": ["SEED", "5"]}, "SEED is set for each run; leave it out, and give --seeds"),
        ({"options": ["TEST.TOP_K", "5"]}, "cls.yaml: TEST.TOP_K must be 3"),
    ]
    for settings, message in cases:
        with pytest.raises(InputError, match=message):
            compare(configs, tools, **settings).check()
    (configs / "methods" / "light.yaml").write_text('_BASE_: "../kd.yaml"\nTEST: {THRESHOLD: 0.3}\n')
    with pytest.raises(InputError, match="TEST.THRESHOLD: light has 0.3, baseline has 0.5"):
        compare(configs, tools).check()
    shutil.rmtree(configs / "methods")
    compare(configs, tools).check()


def test_a_method_of_its_own_has_the_same_photos_and_what_it_names(configs: Path, tools: QuickTools) -> None:
    file, teacher = configs / "methods" / "crossed.yaml", configs / "tiny_train@2of2" / "model_final.pth"
    weights = str(configs / "{dataset}" / "model_final.pth")

    def write(**values: object) -> None:
        write_method_file(
            file, configs / "kd.yaml", {key.replace("__", "."): value for key, value in values.items()}, ""
        )

    write(DATASETS__TRAIN=("tiny_train@1of2",))
    with pytest.raises(InputError, match="crossed.yaml: DATASETS.TRAIN .* are other photos or labels than those of"):
        compare(configs, tools).check()
    parts = ("tiny_train@1of2", "tiny_train@2of2")
    write(DATASETS__TRAIN=parts, KD__TEACHER__WEIGHTS=weights)
    with pytest.raises(InputError, match="tiny_train@1of2/model_final.pth: no such file; train the teacher first"):
        compare(configs, tools).check()
    for part in parts:
        (configs / part).mkdir()
        torch.save({part: torch.zeros(1)}, configs / part / "model_final.pth")
    write(DATASETS__TRAIN=parts, KD__TEACHER__WEIGHTS=weights, KD__CACHE=str(configs / "no_cache"))
    with pytest.raises(InputError, match="KD.CACHE .*no_cache: no such folder; remove it, and one is made"):
        compare(configs, tools).check()
    write(DATASETS__TRAIN=parts, KD__TEACHER__WEIGHTS=weights, KD__CACHE=str(configs))
    for seed in (1, 2):
        tools.add_results("crossed", seed, 0.4)
    comparison = compare(configs, tools, ["baseline", "distilled", "crossed"])
    comparison.check()
    comparison.run()
    text, failures = write_comparison_report(comparison)
    assert failures == [] and any(line.startswith("| crossed ") for line in text.splitlines())
    tools.calls()
    teacher.write_text("another teacher of one part")
    comparison.run()
    assert {call.split("/")[0] for call in tools.calls()} == {"crossed"}


def test_a_teacher_of_another_protocol_stops_before_work(configs: Path, tools: QuickTools) -> None:
    for option, message in (
        ("THRESHOLD: 0.3", "TEST.THRESHOLD: teacher has 0.3, baseline has 0.5; give one to all"),
        ("TOP_K: 5", "TEST.TOP_K: teacher has 5, baseline has 3"),
        ("AVERAGE_PRECISION: voc07", "TEST.AVERAGE_PRECISION: teacher has 'voc07', baseline has 'ranking'"),
        ("CORRUPTION: jpeg:3", "TEST.CORRUPTION: teacher has 'jpeg.*', baseline has ''"),
    ):
        (configs / "wsd.yaml").write_text(f'_BASE_: "{SCENES / "wsd.yaml"}"\nTEST:\n  {option}\n')
        with pytest.raises(InputError, match=message):
            compare(configs, tools).check()
    # A finished teacher has a report, which says how it was made.
    finished = shutil.copytree(tools.folder / "results teacher 1", configs.parent / "finished")
    (finished / "model_final.pth").touch()
    compare(configs, tools, teacher=finished).check()
    path = finished / "inference" / "tiny_test" / "multilabel_results.json"
    report = json.loads(path.read_text())
    for changes, message in (
        ({"protocol": report["protocol"] | {"corruption": "jpeg:3"}}, "of another protocol than the students will be"),
        ({"data": report["data"] | {"sha256": "other labels"}}, "of other images, labels or classes than the students"),
    ):
        path.write_text(json.dumps(report | changes))
        with pytest.raises(InputError, match=f"--teacher .*finished: .*{message}"):
            compare(configs, tools, teacher=finished).check()


def test_two_comparisons_do_not_work_in_one_folder(configs: Path, tools: QuickTools) -> None:
    comparison = compare(configs, tools)
    comparison.folder.mkdir()
    with FileLock(comparison.folder / ".lock"), pytest.raises(InputError, match="another comparison is at work"):
        comparison.run()
