"""The robustness report of students with random weights."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.untrained_run import write_untrained_run
from mlickd.evaluation.metrics import multilabel_metrics

DISTILLED = ["MODEL.META_ARCHITECTURE", "DistilledClassifier", "KD.STAGE", "prediction"]


def write_run(folder: Path, seed: int, *options: object) -> None:
    """Write the files of a finished run on `tiny_train`."""
    write_untrained_run(folder, seed, "Base-Classifier", "DATASETS.TRAIN", ("tiny_train",), *options)


@pytest.fixture(scope="module")
def runs(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        write_run(folder / f"seed{seed}" / "baseline", seed)
        write_run(folder / f"seed{seed}" / "distilled", 10 + seed, *DISTILLED)
    write_run(folder / "feature", 1, *DISTILLED[:-1], "feature")
    write_run(folder / "larger", 1, "INPUT.SIZE_TEST", 48)
    write_run(folder / "classes", 1, "MODEL.NUM_CLASSES", 3)
    parts = ("tiny_train@2of2", "tiny_train@1of2")
    write_run(folder / "crossed", 1, *DISTILLED, "DATASETS.TRAIN", parts)
    write_run(folder / "half", 1, *DISTILLED, "DATASETS.TRAIN", parts[:1])
    (folder / "unfinished").mkdir()
    shutil.copy(folder / "seed1" / "baseline" / "config.yaml", folder / "unfinished")
    return folder


@pytest.fixture
def robustness(runs: Path, call_tool, monkeypatch: pytest.MonkeyPatch):
    """Return a function that calls the tool on `tiny_test`, in the folder of the runs."""
    monkeypatch.chdir(runs)
    return partial(call_tool, "robustness", "--dataset", "tiny_test")


def test_two_pairs_on_corrupted_images(robustness, tmp_path: Path) -> None:
    pairs = ["--baseline", "seed1/baseline", "seed2/baseline", "--distilled", "seed1/distilled", "seed2/distilled"]
    arguments = [*pairs, "--output", tmp_path, "--corruptions", "noise", "darker", "--strengths", 1, 3, "--seed", 5]
    result = robustness(*arguments)
    assert result.status == 0, result.err
    content = json.loads((tmp_path / "robustness.json").read_text())
    conditions = content["sections"]["condition"]
    assert list(conditions) == ["clean", "noise:1", "noise:3", "darker:1", "darker:3", "mean of all corruptions"]
    assert content["corruption_seed"] == 5 and all(len(values) == 2 for values in conditions.values())
    assert conditions["noise:3"] != conditions["clean"]
    corrupted = [conditions[name][0]["distilled"]["mAP"] for name in list(conditions)[1:5]]
    assert conditions["mean of all corruptions"][0]["distilled"]["mAP"] == pytest.approx(np.mean(corrupted))
    for section in ("object size", "number of labels", "frequency of classes in training"):
        assert len(content["sections"][section]) == 3
    # The report has the metrics of the stored scores.
    kept = tmp_path / "evaluations"
    assert len(list(kept.iterdir())) == 20
    for role, number in (("baseline", 0), ("distilled", 1)):
        with np.load(kept / f"{role}{number}_clean" / "image_scores.npz") as scores:
            metrics = multilabel_metrics(scores["scores"], scores["targets"])
        assert conditions["clean"][number][role]["mAP"] == pytest.approx(metrics["mAP"], abs=1e-9)
    protocol = json.loads((kept / "baseline0_noise-3" / "multilabel_results.json").read_text())["protocol"]
    assert protocol["corruption"] == "noise:3"
    report = (tmp_path / "robustness.md").read_text()
    assert report in result.out and "2 pairs of runs" in report and "seed 5" in report
    gains = [100 * (pair["distilled"]["mAP"] - pair["baseline"]["mAP"]) for pair in conditions["noise:3"]]
    row = next(line for line in report.splitlines() if line.startswith("| noise:3"))
    assert row.split("|")[-2].strip() == f"{np.mean(gains):+.1f} ± {np.std(gains, ddof=1):.1f}"
    for name in ("robustness.png", "breakdowns.png"):
        with Image.open(tmp_path / name) as image:
            assert image.width > 600 and (np.asarray(image.convert("L")) < 250).mean() > 0.01

    # The same command runs only missing evaluations, such as a stopped one, and evaluations with a damaged report.
    (kept / "baseline0_darker-1" / "multilabel_results.json").unlink()
    (kept / "distilled1_clean" / "multilabel_results.json").write_text("[" * 100_000)
    times = {path: path.stat().st_mtime_ns for path in kept.glob("*/image_scores.npz")}
    assert robustness(*arguments).out == result.out
    changed = [path.parent.name for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert sorted(changed) == ["baseline0_darker-1", "distilled1_clean"]


def test_one_pair_without_corruptions(robustness, tmp_path: Path) -> None:
    pair = ["--baseline", "seed1/baseline", "--distilled", "crossed"]  # trained on the parts of `tiny_train`
    result = robustness(*pair, "--corruptions", "--output", tmp_path / "new")
    assert result.status == 0, result.err
    assert "1 pair of runs" in result.out and "±" not in result.out.split("standard deviation")[1]
    assert not (tmp_path / "new" / "robustness.png").exists() and (tmp_path / "new" / "breakdowns.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--baseline", "seed1/baseline", "seed2/baseline"], "--baseline has 2 runs and --distilled 1"),
        (["--baseline", "seed1/distilled"], "each run once"),
        (["--baseline", "unfinished"], "unfinished/model_final.pth"),
        (["--baseline", "feature"], "feature: is stage 1"),
        (["--baseline", "classes"], "MODEL.NUM_CLASSES"),
        (["--baseline", "half"], "DATASETS.TRAIN"),
        (["--baseline", "larger"], "INPUT.SIZE_TEST is 32, but 48 in larger"),
        (["--baseline", "seed1/baseline", "--corruptions", "fog"], "--corruptions, --strengths 'fog:1'"),
    ],
)
def test_bad_arguments_end_in_one_line(robustness, tmp_path: Path, arguments: list, message: str) -> None:
    result = robustness(*arguments, "--distilled", "seed1/distilled", "--output", tmp_path / "output")
    result.assert_ends_in_one_line(message)
    assert not (tmp_path / "output").exists()
