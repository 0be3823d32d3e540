"""Configuration files that others have written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mlickd.config import default_config
from mlickd.config_files import merge_config_file, merge_options, read_config_file
from mlickd.distillation.teacher import load_teacher_config
from mlickd.engine import load_config
from mlickd.errors import InputError
from mlickd.runs import run_config


def as_training(file: Path) -> None:
    load_config(str(file), [])


def as_run(file: Path) -> None:
    run_config(str(file.parent))


def as_teacher(file: Path) -> None:
    cfg = default_config()
    cfg.KD.TEACHER.CONFIG_FILE = str(file)
    load_teacher_config(cfg)


def as_step(file: Path) -> None:
    read_config_file(file, str(file))


@pytest.mark.parametrize("read", [as_training, as_run, as_teacher, as_step])
@pytest.mark.parametrize("place", ["itself", "its base"])
def test_nothing_in_a_file_is_run(read: Callable[[Path], None], place: str, tmp_path: Path) -> None:
    """Detectron2's own `merge_from_file` runs what this file says."""
    mark = tmp_path / "ran"
    hostile = f"SOLVER:\n  STEPS: !!python/object/apply:os.system ['touch {mark}']\n"
    file = tmp_path / "config.yaml"
    file.write_text(hostile if place == "itself" else "_BASE_: base.yaml\n")
    (tmp_path / "base.yaml").write_text(hostile)
    with pytest.raises(InputError, match=r"(config|base)\.yaml, line 2; a file with such a tag could run code"):
        read(file)
    assert not mark.exists()
    yaml.unsafe_load(hostile)
    assert mark.exists(), "the file is as hostile as it is meant to be"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("SOLVER:\n  BASE_LRR: 0.1\n", "SOLVER.BASE_LRR; did you mean SOLVER.BASE_LR?"),
        ("NONSENSE: 1\n", "NONSENSE; leave it out, or see docs/configuration.md"),
        ("SOLVER:\n  BASE_LR: fast\n", "SOLVER.BASE_LR fast is of type str; give one of type float, such as 0.001"),
        ("SOLVER:\n  BASE_LR:\n", "SOLVER.BASE_LR has no value; give it one"),
        ("SOLVER: 5\n", "SOLVER"),
        ("SOLVER: [1\n", "is no YAML: .* line 2; correct it there"),
        ("- SOLVER\n", "is no mapping of keys to values"),
        ("text\n", "is no mapping of keys to values"),
        ("", "is no mapping of keys to values"),
        ("5: 6\n", "is no mapping of keys to values"),
        ("_BASE_: config.yaml\n", "its _BASE_ leads back to itself"),
        ("_BASE_: [config.yaml]\n", "its _BASE_ leads back to itself"),
        ("_BASE_: gone.yaml\n", "its _BASE_ .*gone.yaml is not there; correct the path"),
        ("_BASE_: .\n", "cannot be read"),
        ("_BASE_: 5\n", "or its _BASE_ is no path; correct it"),
        ("A: " + "[" * 5000, r"is nested too deep in .*config\.yaml, line 1; correct it there"),
        ("A: " + "[" * 60 + "]" * 60, "is nested too deep"),
        ("A:\n" + "\n".join(f"{' ' * i}a:" for i in range(1, 5000)), "is nested too deep"),
        (f"A: &a {'[' * 30}{']' * 30}\nB: {'[' * 30}*a{']' * 30}\n", "is nested too deep .* line 2"),
        ("A: &a {B: *a}\n", r"\*a is a part of itself in .* line 1"),
        ("SOLVER: {STEPS: &a [1, *a]}\n", r"\*a is a part of itself"),
        ("A: *a\n", "is no YAML: found undefined alias"),
        (
            "SOLVER: {MAX_ITER: 5}\nSEED: 1\nSOLVER: {STEPS: [1]}\n",
            "the key SOLVER is there twice in .* line 3; correct",
        ),
        (
            "SOLVER: {MAX_ITER: 5, STEPS: [5, 5], MAX_ITER: 5}\n",
            "the key MAX_ITER is there twice in .* line 1; correct",
        ),
        (f"SEED: {'-' * 100_000}1\n", "a value has more than 10000 characters in .* line 1; correct it there"),
        (f"SEED: {'-' * 9_000}1\n", "(nested too deep|is of type str); "),
        (f"SEED: {'9' * 5_000}\n", "a number has more digits than any key takes; correct it"),
        (f"SEED: 0x{'f' * 5_000}\n", "SEED has more than 63 bits; give a number that has fewer"),
        (f"SEED: {'x' * 5_000}\n", r"SEED x{57}\.\.\. is of type str; give one of type int, such as -1"),
        ("A: \x01\n", r"is no YAML in UTF-8"),
    ],
)
def test_a_malformed_file_is_one_line_with_a_remedy(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=f"^the file: .*{message}") as error:
        merge_config_file(default_config(), file, "the file")
    assert "\n" not in str(error.value)


def bomb(form: str) -> str:
    """Twelve lines that stand for 10^12 values."""
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


@pytest.mark.parametrize("read", [as_training, as_run, as_teacher, as_step])
@pytest.mark.parametrize("place", ["itself", "its base"])
@pytest.mark.parametrize("form", ["mappings", "lists", "merged"])
def test_a_bomb_of_aliases_is_refused_at_once(
    form: str, place: str, read: Callable[[Path], None], tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(bomb(form) if place == "itself" else "_BASE_: base.yaml\n")
    (tmp_path / "base.yaml").write_text(bomb(form))
    with pytest.raises(InputError, match=r"has more than 100000 values .* in .*\.yaml, line 6; correct it") as error:
        read(file)
    assert "\n" not in str(error.value)


def test_a_bomb_of_bases_is_refused_at_once(tmp_path: Path) -> None:
    """Twelve files that ask for 10^12 readings."""
    (tmp_path / "0.yaml").write_text("SEED: 1\n")
    for level in range(1, 13):
        (tmp_path / f"{level}.yaml").write_text(f"_BASE_: {[f'{level - 1}.yaml'] * 10}\n")
    with pytest.raises(InputError, match="^the file: its _BASE_ leads to more than 1000 files; correct it there$"):
        merge_config_file(default_config(), tmp_path / "12.yaml", "the file")


def test_aliases_are_values(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "SOLVER: {STEPS: &steps [1, 2]}\nKD: {FEATURE: &own {MAX_ITER: 5}, PREDICTION: {<<: *own}}\n"
        "INPUT: {SIZES_TRAIN: *steps}\n"
    )
    cfg = default_config()
    merge_config_file(cfg, tmp_path / "config.yaml", "the file")
    assert cfg.SOLVER.STEPS == cfg.INPUT.SIZES_TRAIN == (1, 2)
    assert cfg.KD.FEATURE.MAX_ITER == cfg.KD.PREDICTION.MAX_ITER == 5


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"A: \xff\xfe")
    with pytest.raises(InputError, match="is no YAML in UTF-8"):
        merge_config_file(default_config(), tmp_path / "config.yaml", "the file")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["SOLVER.BASE_LR"], "are no KEY VALUE pairs"),
        (["SOLVER.BASE_LRR", "0.1"], "did you mean SOLVER.BASE_LR?"),
        (["SOLVER.BASE_LR", "None"], "SOLVER.BASE_LR has no value"),
        (["SOLVER.BASE_LR", "fast"], "SOLVER.BASE_LR fast is of type str; give one of type float"),
        (["SOLVER.BASE_LR.X", "1"], "SOLVER.BASE_LR.X"),
        (["_BASE_", "x.yaml"], "_BASE_"),
        (
            ["SEED", "-" * 100_000 + "1"],
            r"^options SEED -{57}\.\.\.: one has more than 10000 characters; put it into a file$",
        ),
        (["SEED", "-" * 9_000 + "1"], r"^options SEED -{57}\.\.\.: .*(nested too deep|is of type str); "),
    ],
)
def test_wrong_options_are_one_line(options: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        merge_options(default_config(), options)


def test_values_are_taken_from_file_and_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("SOLVER:\n  BASE_LR: 0.5\n  WEIGHT_DECAY_BIAS: 0.0\n")
    (tmp_path / "config.yaml").write_text("_BASE_: base.yaml\nSOLVER:\n  WEIGHT_DECAY_BIAS:\n  STEPS: [1, 2]\n")
    cfg = default_config()
    merge_config_file(cfg, tmp_path / "config.yaml", "the file")
    merge_options(cfg, ["SEED", "3"])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY_BIAS, cfg.SOLVER.STEPS, cfg.SEED) == (0.5, None, (1, 2), 3)
