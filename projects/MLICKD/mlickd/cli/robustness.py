"""Compare baseline and distilled students on corrupted images, and by object size, labels and class frequency."""

import logging
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.data.corruptions import CORRUPTION_REGISTRY, STRENGTHS, Corruption
from mlickd.studies.robustness import compare_robustness

EPILOG = """\
example, with two seeds:
  python tools/robustness.py --dataset scenes_test --output output/robustness \\
      --baseline output/scenes/seed1/baseline output/scenes/seed2/baseline \\
      --distilled output/scenes/seed1/distilled/prediction output/scenes/seed2/distilled/prediction

  Only a few corruptions and strengths:
  python tools/robustness.py --dataset scenes_test --output output/noise --baseline output/scenes/baseline \\
      --distilled output/scenes/distilled/prediction --corruptions noise jpeg --strengths 1 3

Runs at the same position form a pair. All evaluations are kept in --output. To continue after an interruption, give the
same command again.
"""


def main() -> None:
    """Evaluate the runs on corrupted images, and write the report."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument("--dataset", required=True, metavar="NAME", help="dataset to evaluate on")
    folders = {"nargs": "+", "type": Path, "required": True, "metavar": "FOLDER"}
    parser.add_argument("--baseline", help="runs of the baseline", **folders)
    parser.add_argument("--distilled", help="runs of the distilled student, in the same order", **folders)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for the report")
    names = list(dict(CORRUPTION_REGISTRY))
    names_help = f"corruptions (default: {' '.join(names)}); an empty list: only clean images"
    parser.add_argument("--corruptions", nargs="*", default=names, metavar="NAME", help=names_help)
    strengths_help = "strengths of the corruptions (default: 1 2 3)"
    parser.add_argument("--strengths", nargs="+", default=list(STRENGTHS), metavar="N", help=strengths_help)
    parser.add_argument("--seed", type=int, default=0, help="seed of the corruptions (default: 0)")
    args = parser.parse_args()
    logging.getLogger("mlickd.studies.robustness").setLevel(logging.INFO)
    logging.getLogger("mlickd.evaluation").setLevel(logging.ERROR)  # the report lists the classes that do not count
    corruptions = [
        Corruption.parse(f"{name}:{strength}", args.seed, "--corruptions, --strengths")
        for name in dict.fromkeys(args.corruptions)
        for strength in dict.fromkeys(args.strengths)
    ]
    print(compare_robustness(args.baseline, args.distilled, args.dataset, corruptions, args.output))
