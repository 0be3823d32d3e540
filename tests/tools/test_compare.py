"""Comparisons of methods and the quickstart through their command lines."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mlickd.data import dataset_records
from mlickd.runs import load_run, predict, run_config

pytestmark = pytest.mark.usefixtures("without_proposals")
ROOT = Path(__file__).parents[2]
TINY = ["SOLVER.MAX_ITER", "4", "KD.FEATURE.MAX_ITER", "2", "KD.PREDICTION.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "4"]
TINY += ["SOLVER.WARMUP_ITERS", "1", "SOLVER.CHECKPOINT_PERIOD", "1", "DATALOADER.NUM_WORKERS", "0"]
TINY += ["INPUT.SIZES_TRAIN", "(64,)", "INPUT.SIZE_TEST", "64"]


def command(output: Path, *arguments: str, tool: str = "compare") -> list[str]:
    start = [sys.executable, str(ROOT / "tools" / f"{tool}.py"), "--train", "tiny_train", "--test", "tiny_test"]
    methods = ["--methods", "baseline,distilled"] if tool == "compare" else []
    return [*start, *methods, "--seeds", "1,2", "--output", str(output), *arguments, *TINY]


def run(output: Path, *arguments: str, **options: str) -> subprocess.CompletedProcess:
    line = command(output, *arguments, **options)
    # Users may start the command in another folder.
    return subprocess.run(line, cwd=output.parent, env=os.environ, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_stopped_comparison_continues(tiny_scenes: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert "mlickd train" in run(output, "--dry-run").stdout and not output.exists()
    process = subprocess.Popen(
        command(output, "--jobs", "2"), env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not (output / "logs" / "teacher.json").is_file():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 130, printed
    assert "not run: 1, 2" in run(output, "--table-only").stdout

    whole = run(output, "--jobs", "2")
    assert whole.returncode == 0, whole.stderr
    rows = {line.split("|")[1].strip(): line for line in whole.stdout.splitlines() if line.startswith("| ")}
    assert "±" in rows["baseline"] and "failed" not in rows["baseline"]
    assert rows["distilled"].count("[") == 1, "the last row has the difference on held-out images"
    assert "Use `seed1/" in whole.stdout
    content = json.loads((output / "comparison.json").read_text())
    assert [run["status"] for run in content["runs"]] == ["done"] * 5
    jobs = [job for run in content["runs"] for job in run["jobs"].values()]
    assert {job["jobs"] for job in jobs} == {2} and all(job["machine"] for job in jobs)
    assert content["runs"][0]["versions"]["torch"] == torch.__version__
    for name in ("comparison.md", "classes.png", "precision_recall.png", "curves.png"):
        assert (output / name).stat().st_size > 100
    assert run(output, "--dry-run").stdout.strip() == "", "all runs are finished"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_quickstart_goes_from_photos_to_a_student(tiny_scenes: Path, tmp_path: Path) -> None:
    photos, table = tiny_scenes / "tiny/images", "file_name,house,tree\n"
    for name, labels in (row.split(",") for row in (photos.parent / "labels_train.csv").read_text().split()[1:]):
        table += f"{name},{int('house' in labels)},{int('tree' in labels)}\n"
    (tmp_path / "mine.csv").write_text(table)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/broken.jpg").write_bytes(b"broken")
    (tmp_path / "queue.py").write_text("1 / 0  # a file of the user with the name of a module of Python")
    tools = [sys.executable, str(ROOT / "tools/quickstart.py")], [sys.executable, str(ROOT / "tools/predict.py")]
    data = [
        "--photos",
        str(photos),
        "--labels",
        "mine.csv",
        "--unlabeled",
        "more",
        "--configs",
        "configs/scenes",
        "--output",
        "out",
    ]
    result = subprocess.run([*tools[0], *data, *TINY], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    assert f"DETECTRON2_DATASETS={tmp_path / 'out/data'}" in result.stderr
    assert "more/broken.jpg" in result.stdout
    end = result.stdout.partition(str(tmp_path / "out/data/photos/labels_test.csv"))[2]
    assert all(re.search(rf"{name} \d+\.\d \[\d+\.\d, \d+\.\d\]", end) for name in ("mAP", "CF1", "OF1"))
    assert end.count(f"{photos}/test_") == 10, "unlabeled photos"
    arguments = end.rpartition("mlickd predict")[2].replace("FOLDER", str(photos)).split()
    predicted = subprocess.run([*tools[1], *arguments], capture_output=True, text=True)
    assert predicted.returncode == 0 and predicted.stdout.count("train_") == 24
    assert run_config(tmp_path / "out").DATASETS.TEST == ("photos_test", "photos_held_out")


def test_photos_are_read_again_by_the_same_command(call_tool: Callable, tmp_path: Path) -> None:
    (tmp_path / "out/data/photos").mkdir(parents=True)
    result = call_tool("quickstart", "--photos", "none", "--labels", "mine.csv", "--output", tmp_path / "out")
    result.assert_ends_in_one_line("none: is not a folder")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_control_teachers_of_a_study_teach_the_same_student(tiny_scenes: Path, tmp_path: Path) -> None:
    output, controls = tmp_path / "out", tmp_path / "controls"
    data = ["--configs", "configs/folder", "--teacher-per-seed", "--held-out", "0", "--seeds", "1", "--jobs", "2"]
    assert run(output, *data).returncode == 0
    script = ROOT / "projects" / "MLICKD" / "benchmarks" / "control_teachers.py"
    made = subprocess.run([sys.executable, script, output, controls], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    names = sorted(path.stem for path in controls.glob("*.yaml"))
    files = [word for name in names for word in ("--method-file", f"{name}={controls}/{name}.yaml")]
    compared = run(output, *data, *files)
    assert compared.returncode == 0, compared.stderr
    summary = json.loads((output / "comparison.json").read_text())["summary"]
    assert summary.keys() == {"teacher", "baseline", "distilled", *names} and len(names) == 4

    # A network's image scores are p = (1 - w) p_MIL + w p_context, here with w = 0.5, 0 and 1.
    def scores(teacher: Path) -> torch.Tensor:
        cfg, model = load_run(teacher)
        predicted = predict(cfg, model, dataset_records("tiny_test")[:3], "tiny_test").values()
        return torch.stack([output["image_scores"] for output in predicted])

    mixed, mil, context = (
        scores(folder)
        for folder in (output / "seed1/teacher", *(controls / "seed1" / name for name in ("mil_only", "context_only")))
    )
    torch.testing.assert_close(mixed, (mil + context) / 2)
    baseline = load_run(output / "seed1/baseline")
    records = dataset_records("tiny_test", boxes=False)[:3]
    of_baseline = torch.stack([output["image_scores"] for output in predict(*baseline, records).values()])
    torch.testing.assert_close(scores(controls / "seed1/baseline_teacher"), of_baseline, atol=1e-4, rtol=1e-3)
