"""Train or evaluate the teacher, the baseline, or a stage of distillation."""

import argparse
import os
import time
from contextlib import suppress

from detectron2.config import CfgNode
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm

from mlickd.cli.command_line import command_parser
from mlickd.cli.training_summary import next_command, training_summary
from mlickd.engine import Trainer, load_initial_weights
from mlickd.engine.process_setup import set_up_process
from mlickd.engine.processes import launch
from mlickd.engine.run_config import load_checked_config
from mlickd.files import write_atomic

EPILOG = """\
examples:
  The teacher, the baseline, and the distilled student in two stages:
    mlickd train --config-file configs/wsd_vgg16.yaml
    mlickd train --config-file configs/cls_vgg16.yaml
    mlickd train --config-file configs/kd_vgg16.yaml --kd-stage feature
    mlickd train --config-file configs/kd_vgg16.yaml --kd-stage prediction

  Evaluate the model in the OUTPUT_DIR of a teacher, also with outputs averaged over three sizes and mirror images:
    mlickd train --config-file configs/scenes/wsd.yaml --eval-only \\
        TEST.AUG.ENABLED True TEST.AUG.MIN_SIZES "(128, 160, 192)"

  Your own photos, a folder dataset in $DETECTRON2_DATASETS (pets/images, pets/classes.txt, pets/labels_train.csv and
  labels_test.csv). Two processes share each batch, on two GPUs or on the CPU. The command or torchrun starts them:
    mlickd train --config-file configs/folder/cls.yaml --num-gpus 2 \\
        DATASETS.TRAIN "('pets_train',)" DATASETS.TEST "('pets_test',)"
    torchrun --standalone --nproc_per_node 2 -m mlickd train --config-file configs/folder/cls.yaml \\
        DATASETS.TRAIN "('pets_train',)" DATASETS.TEST "('pets_test',)"

With KD.CACHE FOLDER, both stages read the cache of `mlickd cache-knowledge` and do not run the teacher.
"""


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Train or evaluate in one of the processes."""
    set_up_process(cfg, args)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        load_initial_weights(cfg, model)
        evaluators = [Trainer.build_evaluator(cfg, name, checkpoint=cfg.MODEL.WEIGHTS) for name in cfg.DATASETS.TEST]
        Trainer.test(cfg, model, evaluators)
        if comm.is_main_process():  # reports have its digest
            write_atomic(os.path.join(cfg.OUTPUT_DIR, "config.yaml"), cfg.dump(), "free disk space, and try again")
        if cfg.TEST.AUG.ENABLED:
            Trainer.test_with_TTA(cfg, model)
        return
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    start = time.perf_counter()
    trainer.train()
    if comm.is_main_process():
        summary = training_summary(
            cfg,
            seconds=time.perf_counter() - start,
            first_iteration=trainer.start_iter,
            parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
            command=next_command(cfg, args),
        )
        with suppress(BrokenPipeError):  # the reader of the output has ended; the training is complete
            print(summary, flush=True)


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command. Except for ``--kd-stage`` and ``--timeout``, it has Detectron2's options."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE[,FILE]",
        help="configuration, such as configs/scenes/wsd.yaml; values of later files replace values of earlier ones",
    )
    stage_help = "stage of distillation: feature or prediction; sets KD.STAGE"
    parser.add_argument("--kd-stage", default="", metavar="STAGE", help=stage_help)
    resume_help = "continue from the last checkpoint in OUTPUT_DIR, if there is one"
    parser.add_argument("--resume", action="store_true", help=resume_help)
    parser.add_argument("--eval-only", action="store_true", help="evaluate, do not train")
    minutes = DEFAULT_TIMEOUT.total_seconds() / 60
    for name, kind, default, metavar, text in (
        ("--num-gpus", int, 1, "N", "processes on this machine, one per GPU (default: 1)"),
        ("--num-machines", int, 1, "N", "machines (default: 1)"),
        ("--machine-rank", int, 0, "I", "index of this machine, from 0"),
        ("--dist-url", str, "auto", "URL", "address of the first machine, such as tcp://HOST:PORT"),
        ("--timeout", float, minutes, "MINUTES", f"longest wait for another process (default: {minutes:g})"),
    ):
        parser.add_argument(name, type=kind, default=default, metavar=metavar, help=text)
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="options for the configuration")
    return parser


def main() -> None:
    """Train or evaluate, in one or several processes."""
    args = argument_parser().parse_args()
    launch(run, load_checked_config(args), args)
