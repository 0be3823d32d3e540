"""Files of a run: class names, thresholds, reports, provenance."""

import hashlib
import json
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.untrained_run import write_run_thresholds, write_untrained_run
from mlickd import environment, runs
from mlickd.config import default_config
from mlickd.data import class_names, dataset_records
from mlickd.data.records import labels_digest
from mlickd.errors import InputError
from mlickd.evaluation.score_files import REPORT_FILE, results_folder


def test_class_names_come_from_the_run_or_else_from_its_datasets(tiny_scenes: Path, tmp_path: Path) -> None:
    cfg = default_config()
    cfg.MODEL.NUM_CLASSES, cfg.DATASETS.TEST = 20, ("gone_test", "tiny_test")
    assert runs.run_class_names(cfg, tmp_path) == (tiny_scenes / "tiny/classes.txt").read_text().splitlines()
    names = [f"Größe {number}" for number in range(20)]
    runs.write_class_names(tmp_path, names)
    assert runs.run_class_names(cfg, tmp_path) == names
    runs.write_class_names(tmp_path, names[:2])
    with pytest.raises(InputError, match="classes.txt: has 2 class names"):
        runs.run_class_names(cfg, tmp_path)
    cfg.DATASETS.TEST = ("gone_test",)
    with pytest.raises(InputError, match="classes.txt: no such file"):
        runs.run_class_names(cfg, tmp_path / "other")


def test_thresholds_belong_to_the_checkpoint(tmp_path: Path) -> None:
    run = write_untrained_run(tmp_path / "run")
    cfg, names = runs.run_config(run), [f"class {number}" for number in range(20)]
    values, source = runs.run_thresholds(cfg, run, names)
    assert values.tolist() == [0.4] * 20 and source == "0.4 for all classes"
    tuned = np.linspace(0.1, 0.9, 20).tolist()
    write_run_thresholds(run, names, tuned)
    values, source = runs.run_thresholds(cfg, run, names)
    assert values.tolist() == tuned and "best F1" in source
    with pytest.raises(InputError, match="thresholds.json: its 20 classes"):
        runs.run_thresholds(cfg, run, names[::-1])
    values, source = runs.run_thresholds(runs.run_config(run, str(run / "model_0000049.pth")), run, names)
    assert values.tolist() == [0.4] * 20 and "thresholds.json is for model_final.pth" in source
    (run / "model_final.pth").write_bytes((run / "model_final.pth").read_bytes() + b" ")
    with pytest.raises(InputError, match="thresholds.json"):
        runs.run_thresholds(cfg, run, names)


@pytest.mark.parametrize(
    ("gpus", "devices"),
    [
        (0, {"cpu": "cpu", "cuda": "cpu", "cuda:1": "cpu"}),
        (1, {"cpu": "cpu", "cuda": "cuda", "cuda:1": "cuda"}),
        (2, {"cpu": "cpu", "cuda": "cuda", "cuda:1": "cuda:1"}),
    ],
)
def test_a_run_uses_its_device_if_the_machine_has_it(gpus: int, devices: dict, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    cfg = default_config()
    cfg.MODEL.NUM_CLASSES, cfg.MODEL.META_ARCHITECTURE = 1, "MultiLabelClassifier"
    for trained_on, expected in devices.items():
        cfg.MODEL.DEVICE = trained_on
        (tmp_path / "config.yaml").write_text(cfg.dump())
        assert runs.run_config(tmp_path).MODEL.DEVICE == expected


def test_incomplete_runs_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(default_config().dump())
    with pytest.raises(InputError, match=r"config.yaml: MODEL.NUM_CLASSES"):
        runs.run_config(tmp_path)


def test_metrics_are_merged_by_iteration(tmp_path: Path) -> None:
    lines = [{"iteration": 39, "total_loss": 2.0}, {"iteration": 19, "total_loss": 3.0}]
    lines += [{"iteration": 39, "total_loss": 1.5, "mAP": 50.0}, {"iteration": 59, "total_loss": float("nan")}]
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "metrics.json").write_text("[1]\n" + text + '\n{"iterat')
    assert runs.training_metrics(tmp_path) == {19: {"total_loss": 3.0}, 39: {"total_loss": 1.5, "mAP": 50.0}, 59: {}}
    with pytest.raises(InputError, match="metrics.json: cannot be read"):
        runs.training_metrics(tmp_path / "other")


@pytest.mark.parametrize("text", ["", "[]", '{"metrics": {"mAP": 1}, "per_class": {"cat": 5}}'])
def test_other_files_are_not_reports(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match="report.json: not a report"):
        runs.read_report(tmp_path / "report.json")


def test_provenance_has_data_configuration_versions_and_date(tiny_scenes: Path) -> None:
    cfg = default_config()
    found = runs.provenance(cfg, "tiny_test")
    digest = labels_digest(dataset_records("tiny_test"), class_names("tiny_test"))
    assert found["data"] == {"name": "tiny_test", "images": 12, "sha256": digest}
    assert found["config"] == {"sha256": hashlib.sha256(cfg.dump().encode()).hexdigest()}
    assert found["versions"].keys() == {"mlickd", "commit", "torch", "detectron2"}
    assert found["versions"]["torch"] == torch.__version__
    assert 0 <= (datetime.now(timezone.utc) - datetime.fromisoformat(found["date"])).total_seconds() < 60
    assert f"PyTorch {torch.__version__}" in environment.machine_line()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_a_checkout_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(module.parent), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    module = tmp_path / "checkout" / "package" / "runs.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    assert environment.find_commit(module) is None, "no checkout"
    git("init", "-q")
    assert environment.find_commit(module) is None, "a checkout that does not track the package"
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    assert environment.find_commit(module) == commit
    module.write_text("changed = True")
    assert environment.find_commit(module) == f"{commit}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.find_commit(module) is None, "no git"


def test_an_evaluation_with_other_options_does_not_replace_the_results(tmp_path: Path) -> None:
    (tmp_path / "model_final.pth").write_bytes(b"weights")
    checkpoint = {"sha256": hashlib.sha256(b"weights").hexdigest()}
    first = {"protocol": {"ap": "voc07"}, "image_size": 64, "date": "2026-01-01"}
    others = ({"image_size": 32}, {"protocol": {}}, {"checkpoint": {"sha256": "0"}}, {"date": "2025-12-31"})
    for change, replaces in (({}, True), *((other, False) for other in others)):
        for folder, report in (
            ("inference", first),
            ("evaluation/inference", {**first, "date": "2026-02-01", **change}),
        ):
            file = tmp_path / folder / "data" / REPORT_FILE
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"checkpoint": checkpoint, **report}))
        assert results_folder(tmp_path, "data") == (file.parent if replaces else tmp_path / "inference/data")
    (tmp_path / "model_final.pth").write_bytes(b"another run")
    shutil.rmtree(tmp_path / "inference")
    assert not results_folder(tmp_path, "data").exists()


def test_the_run_in_a_folder(tmp_path: Path) -> None:
    run = tmp_path / "seed1/distilled/prediction"
    for folder in (run, run.with_name("feature")):
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
    for folder in (tmp_path / "seed1", run.parent, run):
        assert runs.find_run(folder) == run
    with pytest.raises(InputError, match=f"config.yaml: .* {run}"):
        runs.find_run(tmp_path)
    (tmp_path / runs.STUDY_FILE).write_text('{"chosen": "seed1/baseline"}')
    assert runs.find_run(tmp_path) == tmp_path / "seed1/baseline"
    for content in ('{"chosen": "../other"}', "[", "{}", "[" * 100_000):
        (tmp_path / runs.STUDY_FILE).write_text(content)
        with pytest.raises(InputError, match=f"{tmp_path}: the comparison .* {run}"):
            runs.find_run(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty.config.yaml: no such file"):
        runs.find_run(tmp_path / "empty")
