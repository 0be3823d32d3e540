"""Look a dataset over before it is used: images, labels, copies between splits, proposals."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.data.checking import check_datasets, report_text
from mlickd.errors import InputError
from mlickd.files import write_json
from mlickd.visualization.label_figure import draw_labels

EPILOG = """
Example:

  Give all splits of a dataset together, so that copies of test images among the training images are found:
    python tools/check_dataset.py holiday_train holiday_test --json output/check/holiday.json

  A picture of the labels of each split is written to output/check/<name>/labels.png.

Exit status: 0 where there is no error (there may be warnings and notes), 1 where there is one, 2 for wrong arguments.
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument("names", nargs="+", metavar="NAME", help="registered or folder datasets: splits of one")
    parser.add_argument(
        "--proposals",
        nargs="+",
        metavar="METHOD",
        help="methods whose proposals must be there (default: those that are there are checked)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("output/check"), metavar="FOLDER", help="(default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was counted and found here")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that decode (default: one for each core)")
    return parser.parse_args()


def main() -> None:
    """Look the datasets over, and print what was found; exit status 1 where something was.

    Raises:
        InputError: an option or what it names is wrong.
    """
    logging.basicConfig(level=logging.ERROR)  # `check_datasets` makes findings of what loading warns of
    args = parse_arguments()
    if args.workers is not None and args.workers < 1:
        raise InputError(f"--workers {args.workers}: give at least 1")
    report = check_datasets(args.names, args.proposals, args.workers)
    for name, split in report.splits.items():
        draw_labels(name, split.labels, args.output / name / "labels.png")
    if args.json:
        write_json(args.json, report.as_json())
    print(report_text(report))
    sys.exit(1 if report.num_errors else 0)
