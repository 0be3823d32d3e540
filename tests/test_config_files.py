"""Configuration files and options."""

from pathlib import Path

import pytest
import yaml

from mlickd.config import default_config
from mlickd.config_files import merge_config_file, merge_options, read_config_file
from mlickd.distillation.teacher_config import load_teacher_config
from mlickd.engine import load_config
from mlickd.errors import InputError
from mlickd.runs import run_config


def read_teacher(file: Path) -> None:
    cfg = default_config()
    cfg.KD.TEACHER.WEIGHTS = str(file.parent / "model_final.pth")
    load_teacher_config(cfg)


READERS = {
    "training": lambda file: load_config(str(file), []),
    "run": lambda file: run_config(str(file.parent)),
    "teacher": read_teacher,
    "mapping": lambda file: read_config_file(file, str(file)),
}


def bomb(form: str) -> str:
    """Return 13 lines that expand to 10^12 values."""
    lines = ["0: &0 {x: 1}"]
    for level in range(1, 13):
        alias = f"*{level - 1} "
        forms = {
            "mappings": "{" + ", ".join(f"{key}: {alias}" for key in "abcdefghij") + "}",
            "lists": "[" + ", ".join([alias] * 10) + "]",
            "merged": "{<<: [" + ", ".join([alias] * 10) + "]}",
        }
        lines.append(f"{level}: &{level} {forms[form]}")
    return "\n".join(lines)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("place", ["config", "base"])
def test_a_hostile_file_is_refused(read: str, place: str, tmp_path: Path) -> None:
    """Detectron2's `merge_from_file` runs the code in this file."""
    mark = tmp_path / "ran"
    code = f"SOLVER:\n  STEPS: !!python/object/apply:os.system ['touch {mark}']\n"
    file = tmp_path / "config.yaml"
    file.write_text("_BASE_: base.yaml\n")
    for content in (code, bomb("mappings"), bomb("lists"), bomb("merged")):
        (tmp_path / f"{place}.yaml").write_text(content)
        with pytest.raises(InputError, match=rf"config\.yaml.* {place}\.yaml|{place}\.yaml, line") as error:
            READERS[read](file)
        assert "\n" not in str(error.value)
    assert not mark.exists()
    yaml.unsafe_load(code)
    assert mark.exists(), "Detectron2 would run the code"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("SOLVER:\n  BASE_LRR: 0.1\n", r"SOLVER.BASE_LRR.* SOLVER.BASE_LR\?"),
        ("SOLVER:\n  BASE_LR: fast\n", "SOLVER.BASE_LR fast .*str.*float.*0.001"),
        ("DATASETS:\n  TRAIN: pets\n", r"DATASETS.TRAIN pets .*tuple.*\('pets',\)"),
        (f"SEED: {'x' * 5_000}\n", "SEED x{60} "),
        ("SOLVER: 5\n", "SOLVER"),
        ("SOLVER: [1\n", r"config\.yaml, line 2"),
        ("SOLVER: {MAX_ITER: 5}\nSEED: 1\nSOLVER: {STEPS: [1]}\n", r"SOLVER .*config\.yaml, line 3"),
        ("- SOLVER\n", "mapping"),
        ("", "mapping"),
        ("A: \x01\n", "mapping"),
        ("_BASE_: config.yaml\n", "_BASE_"),
        ("_BASE_: gone.yaml\n", r"gone\.yaml"),
        ("_BASE_: https://x.org/configs/folder/kd.yaml\n", r"x\.org/configs"),
        (f"A: {'[' * 5000}", "nested"),
    ],
)
def test_a_malformed_file_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=f"^the file: .*{message}") as error:
        merge_config_file(default_config(), file, "the file")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["SOLVER.BASE_LR"], "KEY VALUE"),
        (["SOLVER.BASE_LRR", "0.1"], r"SOLVER.BASE_LR\?"),
        (["SOLVER.BASE_LR", "None"], "SOLVER.BASE_LR "),
        (["SOLVER.BASE_LR.X", "1"], "SOLVER.BASE_LR.X"),
        (["--resume", "1"], "--resume"),
        (["_BASE_", "x.yaml"], "_BASE_"),
    ],
)
def test_wrong_options_are_one_line(options: list[str], message: str) -> None:
    with pytest.raises(InputError, match=f"^options .*{message}"):
        merge_options(default_config(), options)


def test_values_come_from_the_file_its_base_and_the_options(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("SOLVER:\n  BASE_LR: 0.5\n  WEIGHT_DECAY_BIAS: 0.0\n")
    (tmp_path / "config.yaml").write_text(
        "_BASE_: base.yaml\nSOLVER: {WEIGHT_DECAY_BIAS: , STEPS: &steps [1, 2]}\nINPUT: {SIZES_TRAIN: *steps}\n"
        "KD: {FEATURE: &feature {MAX_ITER: 5}, PREDICTION: {<<: *feature}}\n"
    )
    cfg = default_config()
    merge_config_file(cfg, tmp_path / "config.yaml", "the file")
    merge_options(cfg, ["SEED", "3"])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY_BIAS, cfg.SEED) == (0.5, None, 3)
    assert cfg.SOLVER.STEPS == cfg.INPUT.SIZES_TRAIN == (1, 2)
    assert cfg.KD.FEATURE.MAX_ITER == cfg.KD.PREDICTION.MAX_ITER == 5


def test_later_files_replace_values_of_earlier_ones(tmp_path: Path) -> None:
    folder = tmp_path / "a,b"
    folder.mkdir()
    (folder / "first.yaml").write_text("SOLVER: {BASE_LR: 0.5, MAX_ITER: 3}")
    (folder / "second.yml").write_text("SOLVER: {MAX_ITER: 4}")
    cfg = load_config(f"{folder}/first.yaml,{folder}/second.yml", ["SOLVER.BASE_LR", "0.25"])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == (0.25, 4)
    with pytest.raises(InputError, match=f"--config-file {folder}/third.yaml: no such file"):
        load_config(f"{folder}/first.yaml,{folder}/third.yaml", [])
