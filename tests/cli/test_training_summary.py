"""The summary at the end of a training, and the next command."""

from pathlib import Path

import pytest
from detectron2.config import CfgNode

from helpers.processes import parse_arguments
from mlickd.cli.training_summary import next_command
from mlickd.config import default_config

CONFIGS = Path(__file__).parents[2] / "configs" / "folder"


def finish_training(folder: Path, file: str, *options: object) -> CfgNode:
    """Write files of a finished training, and return its configuration."""
    cfg = default_config()
    cfg.merge_from_file(str(CONFIGS / file))
    cfg.merge_from_list(["DATASETS.TRAIN", ("pets_train",), "DATASETS.TEST", ("pets_test",)])
    cfg.merge_from_list(["OUTPUT_DIR", str(folder), "SOLVER.MAX_ITER", 400, "SOLVER.IMS_PER_BATCH", 16, *options])
    for name in ("config.yaml", "log.txt", "model_final.pth"):
        (folder / name).touch()
    return cfg


TRAIN = "mlickd train --config-file"
DATA = ["DATASETS.TRAIN", "pets", "SEED", "7"]
AGAIN = "repeat the first command of stage 1, with --kd-stage prediction and without MODEL.WEIGHTS"


@pytest.mark.parametrize(
    ("file", "stage", "expected"),
    [
        ("cls.yaml", "", "mlickd predict PHOTOS --model {out}"),
        ("kd.yaml", "prediction", "mlickd predict PHOTOS --model {out}"),
        ("wsd.yaml", "", f"{TRAIN} KD_FILE --kd-stage STAGE KD.TEACHER.WEIGHTS {{out}}/model_final.pth"),
        # Stage 2 starts from stage 1, not from the start of stage 1.
        ("kd.yaml", "feature", f"{TRAIN} kd.yaml --kd-stage prediction --num-gpus 4 {' '.join(DATA)}"),
        # The configuration of a resumed run does not have the options of the first command.
        ("{out}/config.yaml", "feature", AGAIN),
    ],
)
def test_the_next_command_is_the_next_step(tmp_path: Path, file: str, stage: str, expected: str):
    config = "kd.yaml" if file.endswith("config.yaml") else file
    cfg = finish_training(tmp_path, config, "KD.STAGE", stage, "KD.METHOD_STAGES", ("feature", "prediction"))
    line = ["--config-file", file.format(out=tmp_path), "--num-gpus", 4, "MODEL.WEIGHTS", "start.pth", *DATA]
    assert next_command(cfg, parse_arguments(*line)) == expected.format(out=tmp_path)
    if stage == "feature":
        assert next_command(cfg, parse_arguments("--num-machines", 2, *line)) == AGAIN
