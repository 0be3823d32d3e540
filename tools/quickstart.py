#!/usr/bin/env python
"""Run the whole method on one data set: proposals, teacher, its knowledge of the training images, student without, both
stages of distillation, evaluation, one table, the curves and the gallery."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mlickd.engine.pipeline import Pipeline
from mlickd.engine.report import write_report
from mlickd.errors import run_tool

ROOT = Path(__file__).parents[1]
EXAMPLES = """
Examples:

  The procedural data set, which needs no download:
    python tools/quickstart.py

  Your own photos, a folder data set under $DETECTRON2_DATASETS (see datasets/README.md), with three seeds:
    python tools/quickstart.py --configs configs/folder --train animals_train --test animals_test \\
        --seeds 1,2,3 --output output/animals
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--configs", type=Path, default=ROOT / "configs/scenes", help="folder with wsd.yaml, cls.yaml and kd.yaml"
    )
    parser.add_argument("--train", default="scenes_train", help="training data set")
    parser.add_argument("--test", default="scenes_test", help="test data set")
    parser.add_argument("--proposals", "--method", default="edge_boxes", help="how proposals are made")
    parser.add_argument("--seeds", type=read_seeds, default=[1], metavar="1,2,3", help="one run each (default: 1)")
    parser.add_argument("--output", type=Path, default=Path("output/quickstart"), help="folder of the results")
    parser.add_argument("--teacher", type=Path, help="folder of a finished teacher for all seeds; else each trains one")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs for all configurations")
    return parser.parse_args()


def read_seeds(text: str) -> list[int]:
    """`1,2,3` as a list."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    seconds = {}
    for seed in args.seeds:
        pipeline = Pipeline(
            configs=args.configs,
            train=args.train,
            test=args.test,
            folder=args.output / f"seed{seed}",
            seed=seed,
            proposals=args.proposals,
            options=args.opts,
            tools=ROOT / "tools",
            teacher=args.teacher,
        )
        seconds[seed] = pipeline.run()
    print(write_report(args.output, args.test, seconds, args.teacher))


if __name__ == "__main__":
    run_tool(main)
