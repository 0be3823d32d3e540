"""The log of a training process, on any output."""

import argparse
import io
import logging
from pathlib import Path

from mlickd.config import default_config
from mlickd.engine import process_setup


def test_the_log_is_complete_on_any_output(tmp_path: Path, monkeypatch, capfd) -> None:
    output = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", output)
    monkeypatch.setattr(process_setup, "class_names", lambda name: ["\u4e2d"])
    cfg = default_config()
    cfg.OUTPUT_DIR, cfg.DATASETS.TEST = str(tmp_path), ("mine_test",)
    options = {"config_file": "configs/folder/cls.yaml", "resume": False, "eval_only": False}
    process_setup.set_up_process(cfg, argparse.Namespace(**options))
    printed = output.detach().getvalue().decode("cp1252")
    logging.getLogger("mlickd").info("after the output was closed")
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "\\u4e2d" in printed and "\u4e2d" in log and "closed" in log and "\x1b" not in printed + log
    assert "Logging error" not in capfd.readouterr().err
    assert not (tmp_path / "config.yaml").exists(), "a run that cannot be resumed keeps its configuration"
