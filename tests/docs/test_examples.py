"""The examples of the page on extending: each is run as the page says, and trains."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.cached_scenes import CachedScenes
from helpers.small_models import teacher_config
from mlickd.cli.train_net import main
from mlickd.data import ProposalStore, dataset_records, proposals_path
from mlickd.distillation import TeacherKnowledge

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SMALL = ["SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_ITERS", "1", "SOLVER.IMS_PER_BATCH", "4", "DATALOADER.NUM_WORKERS", "0"]
SMALL += ["INPUT.SIZES_TRAIN", "(64,)", "INPUT.SIZE_TEST", "64", "MODEL.DEVICE", "cpu"]


def command_of_page(example: str) -> list[str]:
    """Arguments that the page gives to an example."""
    lines = PAGE.replace("\\\n", " ").splitlines()
    (line,) = [line for line in lines if re.match(rf"    (\w+=\S+ )?python docs/examples/{example}\.py", line)]
    words = shlex.split(line)
    return words[words.index(f"docs/examples/{example}.py") + 1 :]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict, dict]]:
    """`train(run, *arguments)` trains; what the script defines, and the last values that were logged."""

    def run(script: Callable[[], dict | None], *arguments: str, output: str = "") -> tuple[dict, dict]:
        words = ["train_net.py", *arguments, *SMALL, "OUTPUT_DIR", str(tmp_path / "out")]
        monkeypatch.setattr("sys.argv", words)
        defined = script() or {}
        logged = {}
        for line in (tmp_path / "out" / output / "metrics.json").read_text().splitlines():
            logged |= json.loads(line)
        return defined, logged

    monkeypatch.chdir(ROOT)
    return run


def script(name: str) -> Callable[[], dict]:
    return lambda: runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_distiller(tiny_scenes: Path, tmp_path: Path, train: Callable) -> None:
    scenes = CachedScenes.create(tmp_path / "scenes")
    config = tmp_path / "kd.yaml"
    config.write_text(scenes.config("prediction", "", "KD.METHOD_STAGES", ("prediction",)).dump())
    arguments = command_of_page("sure_teacher_distiller")
    arguments[arguments.index("--config-file") + 1] = str(config)
    defined, logged = train(script("sure_teacher_distiller"), *arguments, output="prediction")
    assert logged["loss_label"] > 0 and 0 < logged["loss_soft_label"] < 100

    rng = np.random.default_rng(0)
    teacher, logits = rng.random((3, 4)), rng.normal(size=(3, 4))
    student = 1 / (1 + np.exp(-logits))
    entropy = -(teacher * np.log(student) + (1 - teacher) * np.log(1 - student))
    expected = 0.5 * (np.abs(2 * teacher - 1) * entropy).sum() / 3
    knowledge = [TeacherKnowledge(torch.tensor(of_image)) for of_image in teacher]
    loss = defined["SureTeacherDistiller"](loss_weight=0.5)(torch.tensor(logits), knowledge)
    assert loss.item() == pytest.approx(expected)


def test_a_comparison_knows_the_distiller_of_a_file(tmp_path: Path) -> None:
    (block,) = re.findall(r"DETECTRON2_ENV_MODULE=.*\\\n.*", PAGE)
    words = shlex.split(block.replace("\\\n", " "))
    method = tmp_path / "sure_teacher.yaml"
    method.write_text("\n".join(line.strip() for line in PAGE.splitlines() if line.startswith(" " * 8 + "_BASE_")))
    content = next(line.strip() for line in PAGE.splitlines() if "SureTeacherDistiller" in line and "KD:" in line)
    method.write_text(method.read_text().replace("configs/", f"{ROOT}/configs/") + f"\n{content}\n")
    variable, _, value = words[0].partition("=")
    arguments = [word.replace("sure_teacher.yaml", str(method)) for word in words[2:]]
    result = subprocess.run(
        [sys.executable, *arguments, "--dry-run", "--seeds", "1", "--output", str(tmp_path / "out")],
        cwd=ROOT,
        env=os.environ | {variable: value},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert f"--config-file {method} --kd-stage prediction" in result.stdout


def test_backbone(tiny_scenes: Path, train: Callable) -> None:
    arguments = [word.replace("scenes_", "tiny_") for word in command_of_page("small_backbone")]
    defined, logged = train(script("small_backbone"), *arguments)
    assert logged["total_loss"] > 0
    backbone = defined["SmallBackbone"](channels=8)
    shape = backbone.output_shape()["last"]
    with torch.no_grad():
        (of_image,) = backbone(torch.zeros(1, 3, 64, 96)).values()
    assert of_image.shape == (1, shape.channels, 64 // shape.stride, 96 // shape.stride)


def test_data_set(tmp_path: Path, train: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        folder = tmp_path / "photos" / split
        folder.mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
            (folder / f"{number}.txt").write_text(("cat", "dog\nperson", "person")[number % 3])
    monkeypatch.setenv("PHOTOS", str(tmp_path / "photos"))
    network = ["MODEL.BACKBONE.NAME", "build_vgg_backbone", "MODEL.BACKBONE.WEIGHTS", "", "MODEL.VGG.DEPTH", "11"]
    network += ["MODEL.VGG.WIDTH", "0.1", "MODEL.CLASSIFIER.IN_FEATURE", "", "MODEL.BACKBONE.FREEZE_NORM", "False"]
    _, logged = train(script("sidecar_dataset"), *command_of_page("sidecar_dataset"), *network)
    assert logged["total_loss"] > 0
    assert [record["labels"] for record in dataset_records("sidecar_test")] == [[0], [1, 2], [2], [0]]


def test_proposals(tiny_scenes: Path, tmp_path: Path, train: Callable) -> None:
    write = runpy.run_path(str(EXAMPLES / "own_proposals.py"))["write_center_boxes"]
    for name in ("tiny_train", "tiny_test"):
        write(name)
        store = ProposalStore.open(proposals_path(name, "center"))
        store.check(dataset_records(name))
    boxes, _ = store[dataset_records("tiny_test")[0]["image_id"]]
    np.testing.assert_allclose(boxes, [[25.6, 25.6, 102.4, 102.4], [0, 0, 128, 128]], rtol=1e-6)
    cfg = teacher_config()
    cfg.MODEL.NUM_CLASSES = -1
    (tmp_path / "teacher.yaml").write_text(cfg.dump())
    data = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)"]
    arguments = ["--config-file", str(tmp_path / "teacher.yaml"), *data, "DATASETS.PROPOSALS.METHOD", "center"]
    _, logged = train(main, *arguments)
    assert logged["total_loss"] > 0


def test_the_page_shows_every_example() -> None:
    pages = [PAGE, (ROOT / "docs" / "proposals.md").read_text(encoding="utf-8")]
    shown = {name for page in pages for name in re.findall(r'example\("([^"]+)"\)', page)}
    assert shown == {path.name for path in EXAMPLES.glob("*.py")}
