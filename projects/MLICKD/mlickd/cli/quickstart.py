"""Run the whole method on one dataset: proposals, teacher, its knowledge of the training images, baseline, both
stages of distillation, evaluation, one table, the curves and the gallery."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mlickd.cli.command_line import command_parser, read_seeds
from mlickd.cli.repository import scripts_folder, shipped_config
from mlickd.studies.pipeline import Pipeline
from mlickd.studies.report import write_report

EXAMPLES = """
Examples:

  The procedural dataset, which needs no download:
    python tools/quickstart.py

  Your own photos, a folder dataset under $DETECTRON2_DATASETS (see datasets/README.md), with three seeds:
    python tools/quickstart.py --configs configs/folder --train animals_train --test animals_test \\
        --seeds 1,2,3 --output output/animals
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--configs", type=Path, metavar="FOLDER", help="with wsd.yaml, cls.yaml and kd.yaml (default: configs/scenes)"
    )
    parser.add_argument("--train", default="scenes_train", metavar="NAME", help="training dataset")
    parser.add_argument("--test", default="scenes_test", metavar="NAME", help="test dataset")
    parser.add_argument(
        "--proposals", "--method", default="edge_boxes", metavar="METHOD", help="how proposals are made"
    )
    parser.add_argument("--seeds", type=read_seeds, default=[1], metavar="1,2,3", help="one run each (default: 1)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/quickstart"),
        metavar="FOLDER",
        help="of the results (default: output/quickstart)",
    )
    parser.add_argument(
        "--teacher", type=Path, metavar="FOLDER", help="a finished one for all seeds; else each trains one"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="for all configurations")
    return parser.parse_args()


def main() -> None:
    """Run the pipeline of each seed, and write the report.

    Raises:
        InputError: an option or what it names is wrong.
    """
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    configs = args.configs or shipped_config("--configs", "scenes")
    seconds = {}
    for seed in args.seeds:
        pipeline = Pipeline(
            configs=configs,
            train=args.train,
            test=args.test,
            folder=args.output / f"seed{seed}",
            seed=seed,
            proposals=args.proposals,
            options=args.opts,
            tools=scripts_folder(),
            teacher=args.teacher,
        )
        seconds[seed] = pipeline.run()
    print(write_report(args.output, args.test, seconds, args.teacher))
