"""The setup of a training process: log, seed and memory."""

import argparse
import logging
import re
import sys

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from mlickd.data.catalog import class_names
from mlickd.environment import keep_freed_memory
from mlickd.errors import escape_unencodable, user_error_message
from mlickd.safe_images import note_pillow_warnings

from .processes import is_lost_connection, lock_output_dir

logger = logging.getLogger(__name__)


def set_up_process(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Set up log, seed and memory of a process.

    Detectron2's ``default_setup`` also writes ``config.yaml``. Here, the trainer writes it after it has loaded the
    checkpoint: a run that cannot be resumed with other options keeps its configuration.
    """
    if not args.eval_only:
        lock_output_dir(cfg.OUTPUT_DIR)
    _prepare_log(cfg.OUTPUT_DIR)
    logger.info("Process %d of %d\n%s", comm.get_rank() + 1, comm.get_world_size(), collect_env_info())
    logger.info("Command line arguments: %s\nConfiguration:\n%s", args, cfg.dump())
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not args.eval_only
    if cfg.MODEL.DEVICE == "cpu":
        keep_freed_memory()
    logging.getLogger("detectron2.engine.train_loop").addFilter(_shorten_traceback)
    note_pillow_warnings()
    logger.info("Classes: %s", ", ".join(class_names(cfg.DATASETS.TEST[0])))
    if cfg.MODEL.WEIGHTS and not args.resume:
        logger.info("Starting from MODEL.WEIGHTS %s", cfg.MODEL.WEIGHTS)


def _prepare_log(folder: str) -> None:
    """Set up the loggers of Detectron2 and of this project.

    Outside of a terminal, they write no colors. They escape characters that cannot be encoded.
    """
    rank, logs = comm.get_rank(), [logging.getLogger(name) for name in ("fvcore", "detectron2", "mlickd")]
    before = {handler for log in logs for handler in log.handlers}
    setup_logger(folder, distributed_rank=rank, name="fvcore")
    setup_logger(folder, distributed_rank=rank)
    setup_logger(folder, distributed_rank=rank, name="mlickd")
    for handler in {handler for log in logs for handler in log.handlers} - before:
        escape_unencodable(handler.stream, None if handler.stream is sys.stdout else "utf-8")
        if not handler.stream.isatty():
            handler.addFilter(_remove_colors)
        handler.handleError = lambda record: None  # training goes on if the reader of standard output has ended


def _remove_colors(record: logging.LogRecord) -> bool:
    record.msg, record.args = re.sub(r"\x1b\[[0-9;]*m", "", record.getMessage()), ()
    return True


def _shorten_traceback(record: logging.LogRecord) -> bool:
    """Replace the traceback in a log record with one line if a user or another process caused the error."""
    error = record.exc_info[1] if record.exc_info else None
    reason = error and user_error_message(error)
    if error is not None and is_lost_connection(error):
        reason = "another process has ended"
    if reason:
        record.msg, record.args, record.exc_info = "Training has stopped: %s", (reason,), None
    return True
