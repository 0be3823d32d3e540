"""Every example of the documentation trains with the arguments on its page."""

import json
import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.cached_scenes import CachedScenes
from helpers.small_models import teacher_config
from mlickd.cli.train_net import main
from mlickd.data import dataset_records

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SMALL = ["SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_ITERS", "1", "SOLVER.IMS_PER_BATCH", "4", "DATALOADER.NUM_WORKERS", "0"]
SMALL += ["INPUT.SIZES_TRAIN", "(64,)", "INPUT.SIZE_TEST", "64", "MODEL.DEVICE", "cpu"]


def page_arguments(example: str) -> list[str]:
    """Return the arguments that the page gives an example."""
    (line,) = re.findall(rf"^    .*python docs/examples/{example}\.py (.*)$", PAGE.replace("\\\n", " "), re.MULTILINE)
    return shlex.split(line)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Return a function that runs an example, or train_net.py, and returns the last logged values."""

    def run(script: str, *arguments: str, stage: str = "") -> dict:
        monkeypatch.setattr("sys.argv", ["train_net.py", *arguments, *SMALL, "OUTPUT_DIR", str(tmp_path / "out")])
        runpy.run_path(str(EXAMPLES / f"{script}.py"), run_name="__main__") if script else main()
        logged = {}
        for line in (tmp_path / "out" / stage / "metrics.json").read_text().splitlines():
            logged |= json.loads(line)
        return logged

    monkeypatch.chdir(ROOT)
    return run


def test_distiller(tiny_scenes: Path, tmp_path: Path, train: Callable) -> None:
    config = tmp_path / "kd.yaml"
    scenes = CachedScenes.create(tmp_path / "scenes")
    config.write_text(scenes.config("prediction", "", "KD.METHOD_STAGES", ("prediction",)).dump())
    arguments = [str(config) if word.endswith("kd.yaml") else word for word in page_arguments("sure_teacher_distiller")]
    logged = train("sure_teacher_distiller", *arguments, stage="prediction")
    assert logged["loss_label"] > 0 and 0 < logged["loss_soft_label"] < 100


def test_backbone(tiny_scenes: Path, train: Callable) -> None:
    arguments = [word.replace("scenes_", "tiny_") for word in page_arguments("small_backbone")]
    assert train("small_backbone", *arguments)["total_loss"] > 0


def test_dataset(tmp_path: Path, train: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for path in [tmp_path / split / f"{number}.jpg" for split in ("train", "test") for number in range(4)]:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)
        path.with_suffix(".txt").write_text(("cat", "dog\nperson", "person")[int(path.stem) % 3])
    monkeypatch.setenv("PHOTOS", str(tmp_path))
    network = ["MODEL.BACKBONE.NAME", "build_vgg_backbone", "MODEL.BACKBONE.WEIGHTS", "", "MODEL.VGG.DEPTH", "11"]
    network += ["MODEL.VGG.WIDTH", "0.1", "MODEL.CLASSIFIER.IN_FEATURE", "", "MODEL.BACKBONE.FREEZE_NORM", "False"]
    assert train("sidecar_dataset", *page_arguments("sidecar_dataset"), *network)["total_loss"] > 0
    assert [record["labels"] for record in dataset_records("sidecar_test")] == [[0], [1, 2], [2], [0]]


def test_proposals(tiny_scenes: Path, tmp_path: Path, train: Callable) -> None:
    write = runpy.run_path(str(EXAMPLES / "custom_proposals.py"))["write_center_boxes"]
    for name in ("tiny_train", "tiny_test"):
        write(name)
    cfg = teacher_config()
    cfg.MODEL.NUM_CLASSES, cfg.DATASETS.PROPOSALS.METHOD = -1, "center"
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("tiny_train",), ("tiny_test",)
    (tmp_path / "teacher.yaml").write_text(cfg.dump())
    assert train("", "--config-file", str(tmp_path / "teacher.yaml"))["total_loss"] > 0


def test_a_worker_can_import_a_script_that_trains() -> None:
    (script,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/api/index.md").read_text(), re.M | re.S)
    namespace: dict = {"__name__": "__mp_main__"}
    exec(script, namespace)
    assert "Trainer" in namespace and "trainer" not in namespace
