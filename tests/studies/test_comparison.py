"""Comparisons of methods and seeds: runs, repeated runs, and the report."""

import json
import os
import shutil
import statistics
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.cached_scenes import write_random_boxes
from helpers.quick_tools import QuickTools
from mlickd.cli.compare import run_comparison
from mlickd.data import dataset_records, proposals_path
from mlickd.environment import dataset_root
from mlickd.errors import InputError
from mlickd.evaluation import bootstrap_metrics, multilabel_metrics
from mlickd.evaluation.intervals import percentile_interval, summarize
from mlickd.evaluation.score_files import read_scores
from mlickd.files import file_digest
from mlickd.runs import find_run
from mlickd.studies.comparison import Comparison, same_labeled_images
from mlickd.studies.comparison_report import write_comparison_report
from mlickd.studies.jobs import jobs_to_run, run_jobs
from mlickd.studies.training_methods import choose_methods, load_method

SCENES = Path(__file__).parents[2] / "configs" / "scenes"
SKILLS = {"teacher": 0.5, "baseline": 0.2, "distilled": 0.3, "light": 0.25}
BOTH = ("baseline", "distilled")
TEACHER = f"_BASE_: {SCENES / 'wsd.yaml'}\nMODEL: {{NUM_CLASSES: 20}}"  # the configuration of a finished teacher
RESAMPLES = 50  # for speed


@pytest.fixture
def tools(without_proposals: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QuickTools:
    """Quick command lines for two seeds, next to configurations that a test may change."""
    (tmp_path / "configs").mkdir()
    for name in ("wsd", "cls", "kd"):
        (tmp_path / "configs" / f"{name}.yaml").write_text(f"_BASE_: {SCENES / f'{name}.yaml'}\n")
    (tmp_path / "light.yaml").write_text("KD: {METHOD_STAGES: ['prediction']}\n")
    tools = QuickTools(tmp_path / "tools", "tiny_test")
    monkeypatch.setattr("mlickd.studies.jobs.PROGRAM", tools.program)
    monkeypatch.setitem(bootstrap_metrics.__kwdefaults__, "resamples", RESAMPLES)
    for method, skill in SKILLS.items():
        for seed in (1, 2):
            tools.add_results(method, seed, skill)
    return tools


def compare(tools: QuickTools, methods: tuple[str, ...] = (), files: dict | None = None, **others) -> Comparison:
    settings = {"seeds": [1, 2], "options": [], "folder": tools.folder.parent / "out", **others}
    configs = settings.pop("configs", tools.folder.parent / "configs")
    files = {"light": [tools.folder.parent / "light.yaml"]} if files is None else files
    shared = {"train": settings.pop("train", "tiny_train"), "options": settings["options"]}
    unlabeled, test = settings.pop("unlabeled", ()), settings.pop("test", "tiny_test")
    chosen = choose_methods(configs, methods, files, unlabeled=unlabeled, **shared)
    teacher = load_method("teacher", [configs.resolve() / "wsd.yaml"], **shared)
    return Comparison(teacher, chosen, test, **settings)


def run(comparison: Comparison, num_jobs: int = 1) -> list[str]:
    return run_jobs(comparison.jobs(), comparison.folder, num_jobs)


def report(comparison: Comparison, **options: object) -> tuple[str, list[str], dict]:
    """Write the report, and return its Markdown, its failures and its JSON."""
    text, failures = write_comparison_report(comparison, **options)
    return text, failures, json.loads((comparison.folder / "comparison.json").read_text())


def test_more_methods_and_seeds_keep_finished_runs(tools: QuickTools, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(compare(tools, BOTH, seeds=[1])) == []
    assert tools.calls() == ["baseline 1", "distilled/feature 1", "distilled/prediction 1", "teacher 1"]
    monkeypatch.chdir(tools.folder.parent)
    again = compare(tools, BOTH, seeds=[1], configs=Path("configs"), folder=Path("out"))
    assert jobs_to_run(again.jobs()) == [], "the working folder does not matter"
    comparison = compare(tools)
    assert len(jobs_to_run(comparison.jobs())) == 7, "with proposals and a larger cache"
    run(comparison, num_jobs=2)
    new = ["baseline 2", "distilled/feature 2", "distilled/prediction 2", "light/prediction 1", "light/prediction 2"]
    assert tools.calls() == new, "all seeds share the teacher of the first seed"
    assert jobs_to_run(comparison.jobs()) == []
    shard = (comparison.folder / "knowledge" / "shard").read_text()
    assert "--also-for" in shard and "light.yaml" in shard


def test_runs_depend_on_configuration_teacher_and_options(tools: QuickTools) -> None:
    run(compare(tools, BOTH, seeds=[1]))
    tools.calls()
    config = tools.folder.parent / "configs" / "kd.yaml"
    config.write_text(f"{config.read_text()}KD: {{FEATURE: {{WEIGHT: 0.5}}}}\n")
    comparison = compare(tools, BOTH, seeds=[1])
    assert [model.status for model in comparison.models] == ["done", "done", "not run"]
    run(comparison)
    assert tools.calls() == ["distilled/feature 1", "distilled/prediction 1"]
    other = tools.folder / "other"
    other.mkdir()
    (other / "model_final.pth").write_text("another")
    (other / "config.yaml").write_text(TEACHER)
    run(compare(tools, BOTH, seeds=[1], teacher=other))
    assert tools.calls() == ["distilled/feature 1", "distilled/prediction 1"]
    run(compare(tools, BOTH, seeds=[1], options=["SOLVER.BASE_LR", "0.5"]))
    assert tools.calls() == ["baseline 1", "distilled/feature 1", "distilled/prediction 1", "teacher 1"]


def test_a_read_only_folder_gets_no_proposals_and_given_ones_are_taken(tools: QuickTools, monkeypatch) -> None:
    root, made, given = dataset_root(), str(tools.folder.parent / "out" / "proposals-tiny_test-grid"), "/given"
    monkeypatch.setattr(os, "access", lambda path, _: not Path(path).is_relative_to(root))
    options = ["DATASETS.PROPOSALS.TRAIN_FILES", f"('{given}',)"]
    comparison = compare(tools, BOTH, seeds=[1], held_out="tiny_train@1of4", proposals="grid", options=options)
    proposals, *jobs = jobs_to_run(comparison.jobs())
    assert proposals.command[-3:] == ["tiny_test", "--output", made]
    for job in jobs:
        values = dict(zip(job.command, job.command[1:], strict=False))
        assert values["DATASETS.PROPOSALS.TRAIN_FILES"] == str((given,))
        assert values["DATASETS.PROPOSALS.TEST_FILES"] == str((made, given)), "test and held-out photos"


def test_stored_proposals_are_taken_whatever_their_origin(tools: QuickTools, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny").symlink_to(dataset_root() / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    for method in ("grid", "deep"):
        write_random_boxes(proposals_path("tiny_train", method), "tiny_train", seed=1)
    for method, missing in (("grid", ["tiny_test"]), ("deep", ["tiny_test"]), ("sliding", ["tiny_test", "tiny_train"])):
        proposals, *_ = jobs_to_run(compare(tools, BOTH, seeds=[1], proposals=method).jobs())
        assert sorted(proposals.command[4:]) == missing
    write_random_boxes(proposals_path("tiny_train", "grid"), "tiny_test", seed=1)
    proposals, *_ = jobs_to_run(compare(tools, BOTH, seeds=[1], proposals="grid").jobs())
    assert sorted(proposals.command[4:]) == ["tiny_test", "tiny_train"], "those of other images are replaced"


def test_each_seed_can_have_a_separate_teacher(tools: QuickTools) -> None:
    comparison = compare(tools, BOTH, teacher_per_seed=True)
    run(comparison, num_jobs=2)
    assert [call for call in tools.calls() if "teacher" in call] == ["teacher 1", "teacher 2"]
    second = next(job for job in comparison.jobs() if job.name == "seed2/distilled/feature")
    assert str(comparison.folder / "seed2" / "teacher" / "model_final.pth") in second.command
    assert str(comparison.folder / "seed2" / "knowledge") in second.command


def test_each_seed_can_have_separate_labels_and_students_learn_from_the_other_images(tools: QuickTools) -> None:
    (tools.folder.parent / "light.yaml").write_text("DATASETS: {UNLABELED: ['tiny_test']}")
    data = {"train": "tiny_train@{seed}of2", "unlabeled": ["tiny_train@not{seed}of2"], "teacher_per_seed": True}
    jobs = {job.name: job for job in jobs_to_run(compare(tools, seeds=[1, 2, 3], **data).jobs())}
    for seed, part, unlabeled in ((1, 1, "not1"), (2, 2, "not2"), (3, 1, "not1")):
        student, cache = jobs[f"seed{seed}/distilled/feature"], jobs[f"seed{seed}/knowledge"]
        for job in (student, cache):
            assert f"('tiny_train@{part}of2',)" in job.command and f"('tiny_train@{unlabeled}of2',)" in job.command
        assert student.datasets == [f"tiny_train@{part}of2", f"tiny_train@{unlabeled}of2", "tiny_test"]
        assert jobs[f"seed{seed}/light/feature"].command.count("('tiny_test',)") == 2, "to learn and to test"
        for name in ("teacher", "baseline"):
            command = jobs[f"seed{seed}/{name}"].command
            assert f"('tiny_train@{part}of2',)" in command and "DATASETS.UNLABELED" not in command
    assert jobs["generate-proposals"].command[-2:] == ["tiny_test", "tiny_train"]
    part = {job.name: job for job in compare(tools, BOTH, test="tiny_test@1of2").jobs()}
    assert part["seed1/baseline"].datasets == ["tiny_train", "tiny_test@1of2"]
    options = ["SOLVER.REFERENCE_IMAGES", str(len(dataset_records("tiny_train", boxes=False)) // 2)]
    options += ["SOLVER.IMS_PER_BATCH", "1"]  # so that no training has too many epochs
    unchanged = compare(tools, BOTH, options=["SOLVER.REFERENCE_IMAGES", "24", *options[2:]], **data)
    for job in (job for job in unchanged.jobs() if job.command[0] == "train"):
        assert "SOLVER.MAX_ITER" in job.command, "a run with fewer images must not adapt the number again"
    half, whole = (
        compare(tools, BOTH, options=options, **{**data, "unlabeled": unlabeled}).iterations
        for unlabeled in ([], data["unlabeled"])
    )
    assert whole == {name: [2 * number for number in numbers] for name, numbers in half.items()}, "also the baseline"
    with pytest.raises(InputError, match="{seed}.*--teacher-per-seed"):
        compare(tools, **{**data, "teacher_per_seed": False})
    with pytest.raises(InputError, match="tiny_train@1of2 .*DATASETS.TRAIN"):
        compare(tools, **{**data, "unlabeled": ["tiny_train@1of2"]})


@pytest.fixture
def held_out(tools: QuickTools) -> dict[str, str]:
    """Settings for a quarter of held-out images, on which the baseline is best, unlike on the test images."""
    for method, skill in {"teacher": 0.3, "baseline": 0.4, "distilled": 0.2}.items():
        for seed in (1, 2):
            tools.add_results(method, seed, skill, "tiny_train@1of4")
    return {"train": "tiny_train@not1of4", "held_out": "tiny_train@1of4"}


def test_the_student_is_chosen_on_held_out_images(
    tools: QuickTools, tiny_scenes: Path, held_out: dict, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, _, content = report(compare(tools, BOTH, **held_out))
    assert "0 photos" not in text and content["chosen"] is None
    tools.fail("baseline", 2)
    failures = run_comparison(compare(tools, BOTH, **held_out))
    calls = (tools.folder / "calls").read_text().splitlines()
    assert sorted(calls[:3]) == ["baseline 1", "baseline 2", "teacher 1"] and calls.count("baseline 2") == 1
    assert len(failures) == 1 and "distilled/prediction 2" in calls, "the other runs continue"
    printed = capsys.readouterr().out
    assert "teacher" in printed and "distilled" not in printed and "6 photos are too few" in printed
    _, _, content = report(compare(tools, BOTH, **held_out))
    assert content["chosen"] == "seed1/distilled/prediction", "the only method with all seeds"
    tools.fail("baseline", 2, fails=False)
    monkeypatch.setattr("mlickd.studies.model_selection.FEW_PHOTOS", 6)
    run_comparison(compare(tools, BOTH, **held_out))
    assert "Warning: the teacher is worse" in capsys.readouterr().out
    comparison = compare(tools, BOTH, **held_out)
    text, _, content = report(comparison)
    assert content["chosen"] == "seed1/baseline" and "`seed1/baseline`" in text
    assert find_run(comparison.folder) == comparison.folder / "seed1/baseline"
    assert content["differences"]["distilled"]["mAP"]["mean"] > 0, "the test images do not choose"
    for name, folder in {"teacher": "teacher", "distilled": "seed{}/distilled/prediction"}.items():
        expected = resampled_difference(comparison.folder, folder, "tiny_train@1of4")
        assert content["held_out"]["differences"][name] == pytest.approx(expected)
    write_comparison_report(compare(tools, BOTH, train=held_out["train"]))
    with pytest.raises(InputError, match=f"{comparison.folder}: "):
        find_run(comparison.folder)
    (tools.folder.parent / "light.yaml").write_text("DATASETS: {TRAIN: ['tiny_train@1of2', 'tiny_train@2of2']}")
    with pytest.raises(InputError, match="light.yaml: DATASETS.TRAIN .*--held-out 0"):
        compare(tools, **held_out)
    with pytest.raises(InputError, match="--unlabeled tiny_train@1of8: .*--held-out 0"):
        compare(tools, BOTH, unlabeled=["tiny_train@1of8"], **held_out)
    first, *rows = (tiny_scenes / "tiny" / "labels_train.csv").read_text().splitlines()
    blank = tiny_scenes / "tiny" / "labels_blank.csv"
    blank.write_text("\n".join([first, *(f"{row.partition(',')[0]}," for row in rows)]))
    with pytest.raises(InputError, match="tiny_blank: .*--held-out 0"):
        compare(tools, BOTH, train="tiny_train", held_out="tiny_blank")
    blank.unlink()


def resampled_difference(root: Path, folder: str, dataset: str) -> dict:
    """Return the mean difference of mAP to the baseline over two seeds, with its interval over resampled images."""
    gains, resampled = [], []
    for seed in (1, 2):
        runs = (root / name for name in (folder.format(seed), f"seed{seed}/baseline"))
        files = [read_scores(str(run / "inference" / dataset / "image_scores.npz")) for run in runs]
        one, two = ((file.scores, file.targets) for file in files)
        gains.append(multilabel_metrics(*one)["mAP"] - multilabel_metrics(*two)["mAP"])
        resampled.append(bootstrap_metrics(*one)["mAP"] - bootstrap_metrics(*two)["mAP"])
    low, high = percentile_interval(100 * np.mean(resampled, axis=0))
    return {"mean": 100 * np.mean(gains), "count": 2, "deviation": None, "low": low, "high": high}


def test_failures_are_in_the_report_and_tried_again(tools: QuickTools) -> None:
    tools.fail("teacher", 1)
    comparison = compare(tools, BOTH, seeds=[1])
    run(comparison)
    assert [model.status for model in comparison.models] == ["failed", "done", "failed"]
    assert len(report(comparison)[1]) == 2, "a failed teacher fails its students"
    tools.fail("teacher", 1, fails=False)
    for seed in (1, 2):
        tools.fail("distilled", seed)
    comparison = compare(tools, BOTH)
    run(comparison)
    text, failures, content = report(comparison)
    assert len(failures) == 2 and failures[0].startswith("distilled (seed 1): seed1/distilled/feature failed")
    assert "loss is NaN" in failures[0] and failures[0] in text and "failed: 1, 2" in text
    assert [run["status"] for run in content["runs"]] == ["done", "done", "failed", "done", "failed"]
    assert content["differences"] == {} and not (comparison.folder / "classes.png").exists()
    tools.calls()
    tools.fail("distilled", 2, fails=False)
    comparison = compare(tools, BOTH)
    run(comparison)
    text, failures, content = report(comparison)
    assert tools.calls() == ["distilled/feature 1", "distilled/feature 2", "distilled/prediction 2"]
    assert "failed: 1; done: 2" in text and len(failures) == 1
    assert content["differences"]["distilled"]["mAP"]["count"] == 1


def test_the_report_has_the_values_of_the_runs(tools: QuickTools) -> None:
    comparison = compare(tools)
    text, failures, _ = report(comparison)
    assert failures == [] and text.count("not run: 1, 2") == 3, "a report can be written before anything has run"
    run(comparison)
    comparison = compare(tools)
    costs = {name: {"parameters": 1.5, "milliseconds": 8.0} for name in SKILLS}
    text, _, content = report(comparison, costs=costs, command="mlickd compare")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    table = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:6]}
    values = {}
    for method, seed in product(SKILLS, (1, 2)):
        file = tools.folder / f"results {method} {seed}/inference/tiny_test/multilabel_results.json"
        values[method, seed] = json.loads(file.read_text())["metrics"]
    baseline = [values["baseline", seed]["top3/OF1"] for seed in (1, 2)]
    assert table["baseline"]["top-3 OF1"] == f"{np.mean(baseline):.1f} ± {statistics.stdev(baseline):.1f}"
    assert table["teacher"]["mAP"] == f"{values['teacher', 1]['mAP']:.1f}" and table["teacher"]["seeds"] == "done: 1"
    assert table["distilled"]["iterations"] == "60 + 340" and table["light"]["iterations"] == "340"
    assert table["distilled"]["ms per image"] == "8.0"
    gains = [values["distilled", seed]["mAP"] - values["baseline", seed]["mAP"] for seed in (1, 2)]
    found = content["differences"]["distilled"]["mAP"]
    assert found == pytest.approx(asdict(summarize(gains)))
    difference = f"{np.mean(gains):+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]"
    assert [row[1] for row in rows if row[0] == "distilled"][1] == difference
    expected = resampled_difference(comparison.folder, "seed{}/distilled/prediction", "tiny_test")
    assert content["differences_over_images"]["distilled"]["mAP"] == pytest.approx(expected)
    assert list(content["differences"]) == ["distilled", "light"]
    assert len(content["runs"]) == 7 and content["runs"][0]["method"] == "teacher"
    for entry in content["runs"]:
        assert entry["metrics"] == values[entry["method"], entry["seed"]] and entry["seconds"] > 0
    assert content["iterations"]["distilled"] == [60, 340] and content["protocol"]["topk"] == 3
    for chart in ("classes.png", "precision_recall.png", "curves.png"):
        assert (comparison.folder / chart).stat().st_size > 1000


def test_results_with_another_protocol_or_dataset_are_refused(tools: QuickTools) -> None:
    comparison = compare(tools, BOTH, seeds=[1])
    run(comparison)
    path = comparison.folder / "seed1/distilled/prediction/inference/tiny_test/multilabel_results.json"
    content = json.loads(path.read_text())
    for key in ("protocol", "data"):
        path.write_text(json.dumps({**content, key: {**content[key], "ap": "voc07"}}))
        with pytest.raises(InputError, match=f"multilabel_results.json.*{key}"):
            report(compare(tools, BOTH, seeds=[1]))
    path.write_text(json.dumps({**content, "metrics": {**content["metrics"], "CF1": None}}))
    with pytest.raises(InputError, match="multilabel_results.json: CF1"):
        report(compare(tools, BOTH, seeds=[1]))


def test_a_finished_teacher_is_in_the_table_if_it_was_evaluated(tools: QuickTools) -> None:
    finished = shutil.copytree(tools.folder / "results teacher 1", tools.folder.parent / "finished")
    with pytest.raises(InputError, match="--teacher .*model_final.pth"):
        compare(tools, BOTH, teacher=finished)
    (finished / "model_final.pth").touch()
    (finished / "config.yaml").write_text(f"{TEACHER}\nDATASETS: {{PROPOSALS: {{METHOD: sliding}}}}")
    with pytest.raises(InputError, match="--proposals edge_boxes.*give --proposals sliding"):
        compare(tools, BOTH, teacher=finished)
    (finished / "config.yaml").write_text(TEACHER.replace("wsd.yaml", "cls.yaml"))
    with pytest.raises(InputError, match="--teacher .*is a student"):
        compare(tools, BOTH, teacher=finished)
    (finished / "config.yaml").write_text(TEACHER)
    (finished / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError, match="classes.txt has other classes"):
        compare(tools, BOTH, teacher=finished)
    (finished / "classes.txt").unlink()
    comparison = compare(tools, BOTH, seeds=[1], teacher=finished)
    run(comparison)
    assert not any("teacher" in call for call in tools.calls())
    text, _, content = report(comparison)
    assert content["runs"][0]["method"] == "teacher" and str(finished) in text
    (finished / "evaluation").mkdir()
    (finished / "inference").rename(finished / "evaluation" / "inference")
    file = finished / "evaluation" / "inference" / tools.test / "multilabel_results.json"
    evaluated = json.loads(file.read_text()) | {"checkpoint": {"sha256": file_digest(finished / "model_final.pth")}}
    evaluated["protocol"]["ap"] = "voc07"
    file.write_text(json.dumps(evaluated))
    with pytest.raises(InputError, match="--teacher .*ap voc07"):
        compare(tools, BOTH, seeds=[1], teacher=finished)
    evaluated["protocol"]["ap"] = "ranking"
    file.write_text(json.dumps(evaluated))
    assert len(compare(tools, BOTH, seeds=[1], teacher=finished).models) == 3, "evaluated after its training"
    shutil.rmtree(finished / "evaluation")
    assert [model.method for model in compare(tools, BOTH, seeds=[1], teacher=finished).models] == list(BOTH)


@pytest.mark.parametrize(
    ("settings", "text", "message"),
    [
        ({"seeds": [1, 1]}, "", "--seeds 1,1"),
        ({"options": ["SEED", "5"]}, "", "SEED"),
        ({"options": ["TEST.TOP_K", "5"]}, "", "TEST.TOP_K"),
        ({}, "TEST: {THRESHOLD: 0.3}", "light.yaml: TEST.THRESHOLD"),
        ({}, "DATASETS: {TRAIN: ['tiny_train@1of2']}", "light.yaml: DATASETS.TRAIN"),
        ({}, "KD: {TEACHER: {WEIGHTS: gone.pth}}", "gone.pth"),
    ],
)
def test_incomparable_runs_stop_before_work(tools: QuickTools, settings: dict, text: str, message: str) -> None:
    (tools.folder.parent / "light.yaml").write_text(text or "KD: {}")
    with pytest.raises(InputError, match=message):
        compare(tools, **settings)


def test_a_method_can_have_parts_a_teacher_and_a_cache(tools: QuickTools) -> None:
    root, parts = tools.folder.parent, ["tiny_train@1of2", "tiny_train@2of2"]
    weights, cache = root / "other" / "model_final.pth", root / "cache"
    weights.parent.mkdir()
    torch.save({"a": torch.zeros(1)}, weights)
    (root / "parts.yaml").write_text(
        f"KD: {{CACHE: '{cache}', TEACHER: {{WEIGHTS: '{weights}'}}}}\nDATASETS: {{TRAIN: {parts}}}\n"
    )
    tools.add_results("parts", 1, 0.4)
    settings = {"methods": (*BOTH, "parts"), "files": {"parts": [root / "parts.yaml"]}, "seeds": [1]}
    with pytest.raises(InputError, match=f"parts.yaml: KD.CACHE {cache}"):
        compare(tools, **settings)
    cache.mkdir()
    comparison = compare(tools, **settings)
    assert run(comparison) == [] and "parts/feature 1" in tools.calls()
    command = next(job.command for job in comparison.jobs() if "parts" in job.name)
    assert str(weights) in command and str(tuple(parts)) in command and str(cache) in command
    torch.save({"other": torch.zeros(1)}, weights)
    run(compare(tools, **settings))
    assert tools.calls() == ["parts/feature 1", "parts/prediction 1"]


def test_datasets_with_the_same_labeled_images_are_recognized(tiny_scenes: Path) -> None:
    parts = [f"tiny_train@{number}of3" for number in (3, 1, 2)]
    assert same_labeled_images(parts, ["tiny_train"])
    assert same_labeled_images(["tiny_train@1of3", "tiny_train@not1of3"], parts)
    assert not same_labeled_images(parts[:2], ["tiny_train"]), "one part is missing"
    assert not same_labeled_images([*parts, parts[0]], ["tiny_train"]), "one part occurs twice"
    assert same_labeled_images(["gone_train"], ("gone_train",)), "equal lists need no data"
    lines = (tiny_scenes / "tiny" / "labels_train.csv").read_text().splitlines()
    first, _, labels = lines[1].partition(",")
    changed = "\n".join([lines[0], f"{first},{labels.split(';')[0]}", *lines[2:]])
    (tiny_scenes / "tiny" / "labels_other.csv").write_text(f"{changed}\n")
    assert ";" in labels and not same_labeled_images(["tiny_other"], ["tiny_train"]), "labels count"
    (tiny_scenes / "tiny" / "labels_other.csv").unlink()
