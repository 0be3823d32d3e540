"""Train students by several methods with several seeds on one dataset, or go on with that, and write the table of the
paper: mean and spread of each method, its paired difference to the baseline with a confidence
interval, the gain of each class, precision-recall and training curves, as Markdown, CSV, JSON and HTML."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from mlickd.cli.command_line import command_parser, read_seeds, typed_command
from mlickd.cli.repository import scripts_folder, shipped_config
from mlickd.errors import InputError
from mlickd.evaluation.published import PUBLISHED
from mlickd.studies.comparison import Comparison
from mlickd.studies.comparison_report import write_comparison_report
from mlickd.studies.methods import choose_methods
from mlickd.studies.steps import threads_of_each

EPILOG = """\
examples:
  The baseline and the paper's method, on the procedural dataset, which needs no download:
    python tools/compare.py --methods baseline,distilled --seeds 1,2,3

  All methods of a folder of configurations, two at a time, on your own photos (see datasets/README.md):
    python tools/compare.py --configs configs/folder --train holiday_train --test holiday_test \\
        --seeds 1,2,3 --jobs 2 --output output/holiday_comparison

  With knowledge of teachers that have not seen the photos they speak of, from tools/cross_fit.py --output output/cross:
    python tools/compare.py --methods baseline,distilled --method-file cross_fitted=output/cross/kd.yaml

  What would be run, and the table of what has ended so far:
    python tools/compare.py --seeds 1,2,3 --dry-run
    python tools/compare.py --seeds 1,2,3 --table-only

A method is a file in the folder --configs: `baseline` is cls.yaml, `distilled` is kd.yaml, any other NAME is
methods/NAME.yaml;
wsd.yaml is the teacher's. Where a file names another teacher, cache or training datasets than kd.yaml does, these are
its own and have to be there; the labeled photos have to be the same.

The same command goes on where it was stopped, tries again what has failed, and leaves what has ended and has not
changed. The exit status is 1 where a run has failed, and 2 where the command is wrong.
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument("--configs", type=Path, metavar="FOLDER", help="default: configs/scenes")
    parser.add_argument("--train", default="scenes_train", metavar="NAME", help="training dataset")
    parser.add_argument("--test", default="scenes_test", metavar="NAME", help="test dataset")
    parser.add_argument("--methods", default="", metavar="NAME,NAME", help="default: all that --configs has")
    parser.add_argument(
        "--method-file",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="one more method, by a configuration that lies elsewhere; may be given several times",
    )
    parser.add_argument("--seeds", type=read_seeds, default=[1, 2, 3], metavar="1,2,3", help="default: 1,2,3")
    parser.add_argument(
        "--output", type=Path, default=Path("output/comparison"), metavar="FOLDER", help="default: output/comparison"
    )
    parser.add_argument("--proposals", default="edge_boxes", metavar="METHOD", help="how proposals are made")
    teacher = parser.add_mutually_exclusive_group()
    teacher.add_argument("--teacher", type=Path, metavar="FOLDER", help="a finished one; else one is trained")
    teacher.add_argument("--teacher-per-seed", action="store_true", help="train a teacher for each seed")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="trainings at once, each with its share of the cores (default: 1)",
    )
    parser.add_argument(
        "--published",
        choices=sorted(PUBLISHED),
        help="put the paper's figures on this dataset beside the measured ones",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="print the commands that would be run")
    what.add_argument(
        "--table-only", action="store_true", help="run nothing, and write tables and charts of what there is"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="for all configurations")
    return parser.parse_args()


def read_method_files(pairs: Sequence[str]) -> dict[str, Path]:
    """`NAME=FILE` as a dictionary."""
    files: dict[str, Path] = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not (name and equals and file):
            raise InputError(f"--method-file {pair}: give a name and a file, as in cross_fitted=output/cross/kd.yaml")
        if name in files:
            raise InputError(f"--method-file {pair}: {name} is {files[name]} already; give another name")
        files[name] = Path(file)
    return files


def main() -> None:
    """Run what is missing of the comparison, and write its report; exit status 1 where a run has failed.

    Raises:
        InputError: an option or what it names is wrong.
    """
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if args.jobs < 1:
        raise InputError(f"--jobs {args.jobs}: is below 1; give 1 or more")
    names = [name for name in args.methods.split(",") if name]
    configs = args.configs or shipped_config("--configs", "scenes")
    comparison = Comparison(
        configs=configs,
        train=args.train,
        test=args.test,
        folder=args.output,
        methods=choose_methods(configs, names, args.opts, read_method_files(args.method_file)),
        seeds=args.seeds,
        proposals=args.proposals,
        options=args.opts,
        tools=scripts_folder(),
        teacher=args.teacher,
        teacher_per_seed=args.teacher_per_seed,
    )
    comparison.check()
    if args.dry_run:
        for line in comparison.commands_to_run():
            print(line)
        return
    if not args.table_only:
        try:
            comparison.run(args.jobs, threads_of_each(args.jobs))
        except KeyboardInterrupt:
            sys.stderr.write("stopped; the same command goes on from here\n")
            sys.exit(130)
    text, failures = write_comparison_report(comparison, published=args.published, command=typed_command())
    print(f"\n{text}")
    if failures:
        sys.exit(1)
