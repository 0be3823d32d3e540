"""Write the student of a finished run as one file, for use without this project, and check that it gives the same."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from mlickd.export import load_exported
from mlickd.export.checking import (
    DECISION_TOLERANCE,
    METRIC_TOLERANCE,
    OWN_TOLERANCE,
    PILLOW_TOLERANCE,
    check_exported,
    checks_table,
    records_for_check,
)
from mlickd.export.exporting import export_student
from mlickd.prediction.runs import find_student

from .command_line import command_parser

EXAMPLE = f"""
Examples:

  python tools/export_student.py --run output/holiday/seed1 --output holiday.onnx

  Both formats, and a comparison with PyTorch on all photos of a dataset, with its labels:
  python tools/export_student.py --run output/holiday/seed1/distilled/prediction --output holiday.onnx holiday.pt2 \\
      --check --dataset holiday_test

  The same on your own photos:
  python tools/export_student.py --run output/holiday/seed1/distilled/prediction --output holiday.onnx \\
      --check --photos ~/photos

  Of the endings, .onnx is for ONNX Runtime and whatever else reads ONNX, .pt2 for PyTorch (torch.export). Both take
  batches of any size, and carry class names, thresholds (of each class, where tools/tune_thresholds.py has left them)
  and how photos are resized. The check ends with status 1 where a score of the same pixels differs by more than
  {OWN_TOLERANCE:g}, or the scores of photos as Pillow alone reads them by more than {PILLOW_TOLERANCE:g} on average;
  where mAP, CF1 or OF1 differ by more than {METRIC_TOLERANCE:g} points (of few photos: 100 over their number);
  and, of photos without labels, where more than {DECISION_TOLERANCE:.1%} of the decisions are others.
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EXAMPLE)
    parser.add_argument(
        "--run",
        required=True,
        metavar="FOLDER",
        help="of a finished run of a student (its OUTPUT_DIR), or of one seed of a pipeline",
    )
    parser.add_argument(
        "--output", required=True, nargs="+", type=Path, metavar="FILE", help="to write, with the ending .onnx or .pt2"
    )
    parser.add_argument(
        "--no-preprocessing",
        action="store_true",
        help="the file takes normalized (N, 3, S, S) float32 images; without this, (N, S, S, 3) uint8 RGB pixels",
    )
    parser.add_argument("--check", action="store_true", help="run the files and PyTorch on photos, and compare")
    parser.add_argument(
        "--dataset", metavar="NAME", help="dataset of --check (default: the first of DATASETS.TEST of the run)"
    )
    parser.add_argument(
        "--photos",
        nargs="+",
        default=[],
        metavar="PATH",
        help="photos, folders, patterns or lists in its place",
    )
    parser.add_argument(
        "--num-images", type=int, metavar="N", help="of the dataset, drawn at random, for --check (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random choice (default: 0)")
    args = parser.parse_args()
    if not args.check and (args.dataset or args.photos or args.num_images is not None):
        parser.error("--dataset, --photos and --num-images say what --check looks at: give --check, too")
    if args.photos and (args.dataset or args.num_images is not None):
        parser.error("--photos stands in place of --dataset and --num-images: give one or the other")
    return args


def main() -> None:
    """Write the files, and check them; exit status 1 where they differ.

    Raises:
        InputError: an option or what it names is wrong.
    """
    args = parse_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run = str(find_student(args.run))
    records = []
    if args.check:
        records = records_for_check(run, args.output, args.dataset, args.photos, args.num_images, args.seed)
    cfg, model, metadata = export_student(run, args.output, preprocessing=not args.no_preprocessing)
    for output in args.output:
        size = f"{output.stat().st_size / 1e6:.1f} MB"
        print(f"{output}: {size}, {len(metadata.class_names)} classes, thresholds: {metadata.thresholds_from}")
    if not args.check:
        return
    checks = check_exported(cfg, model, [load_exported(output) for output in args.output], records)
    print(f"\n{checks_table(checks)}\n{len(records)} photos")
    complaints = [check.complaint for check in checks if check.complaint]
    for complaint in complaints:
        print(f"error: {complaint}", file=sys.stderr)
    if complaints:
        sys.exit(1)
