"""Compare the baseline and the distilled student on damaged images, and by object size, labels and class frequency."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.data.corruptions import STRENGTHS, Corruption, corruption_names
from mlickd.studies.robustness import compare_robustness

EPILOG = """\
example, with two seeds:
  python tools/robustness.py --dataset scenes_test --output output/robustness \\
      --baseline output/scenes/seed1/baseline output/scenes/seed2/baseline \\
      --distilled output/scenes/seed1/distilled/prediction output/scenes/seed2/distilled/prediction

  A part of it:
  python tools/robustness.py ... --corruptions noise jpeg --strengths 1 3

Runs make pairs by their position. All evaluations are kept in --output, and the same command continues after an
interruption.
"""


def parse_arguments() -> argparse.Namespace:
    """Parse the options of the command."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument("--dataset", required=True, metavar="NAME", help="dataset to evaluate on")
    folders = {"nargs": "+", "type": Path, "required": True, "metavar": "FOLDER"}
    parser.add_argument("--baseline", help="runs of the baseline", **folders)
    parser.add_argument("--distilled", help="runs of the distilled student, in the same order", **folders)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for the report")
    parser.add_argument(
        "--corruptions", nargs="*", default=corruption_names(), metavar="NAME",
        help=f"kinds of damage (default: {' '.join(corruption_names())}); no name: none",
    )  # fmt: skip
    parser.add_argument(
        "--strengths", nargs="+", default=list(STRENGTHS), metavar="N", help="strengths of the damage (default: 1 2 3)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage (default: 0)")
    return parser.parse_args()


def main() -> None:
    """Evaluate the runs on damaged images, and write the report."""
    args = parse_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("mlickd.studies.robustness").setLevel(logging.INFO)
    logging.getLogger("mlickd.evaluation").setLevel(logging.ERROR)  # the report names what it leaves out
    corruptions = [
        Corruption.parse(f"{name}:{strength}", args.seed, "--corruptions, --strengths")
        for name in dict.fromkeys(args.corruptions)
        for strength in dict.fromkeys(args.strengths)
    ]
    print(compare_robustness(args.baseline, args.distilled, args.dataset, corruptions, args.output))
