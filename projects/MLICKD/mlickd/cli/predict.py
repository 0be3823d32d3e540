"""Predict the labels of any photos, by a student that is trained, or by its teacher."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.errors import InputError
from mlickd.files import check_writable
from mlickd.prediction.photos import STANDARD_INPUT, find_photos
from mlickd.prediction.predicting import predict_photos
from mlickd.prediction.reports import Choice

EPILOG = """\
examples:
  Photos, folders and patterns, by the student that a pipeline has left:
    python tools/predict.py ~/photos 'more/**/*.jpg' --model output/quickstart/seed1

  The three best classes of each, whatever their scores, as JSON:
    python tools/predict.py photo.jpg --model output/quickstart/seed1/distilled/prediction --topk 3 --json -

  By the teacher, which makes its own proposals, with its regions drawn on the photos:
    python tools/predict.py ~/photos --model output/quickstart/seed1 --teacher --save output/pictures

  By an exported student, of what another command lists:
    find ~/photos -newer last.csv -name '*.jpg' | python tools/predict.py - --model student.onnx --csv today.csv

A class is predicted from its threshold on: --threshold, or those that tools/tune_thresholds.py has left with the run,
or else its TEST.THRESHOLD. A photo that cannot be read is named at the end, and the others are predicted.

Exit status: 0, 1 where a photo could not be read, 2 where there was nothing to predict or the command is wrong.
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="a photo, a folder, a pattern in quotes, or `-`: paths on standard input, one a line",
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="PATH",
        help="folder of a run (its OUTPUT_DIR) or of one seed of a pipeline, a checkpoint, or an exported student",
    )
    parser.add_argument("--config-file", metavar="FILE", help="config.yaml of a checkpoint, where it is not beside it")
    parser.add_argument("--teacher", action="store_true", help="the teacher of --model in place of the student")
    parser.add_argument("--topk", type=int, metavar="K", help="the K best classes; with --threshold, of those above it")
    parser.add_argument("--threshold", type=float, metavar="T", help="score from which a class is predicted, for all")
    parser.add_argument("--batch-size", type=int, metavar="N", help="photos at once (default: TEST.IMS_PER_BATCH)")
    parser.add_argument("--json", metavar="FILE", help="write all scores here; `-`: print them in place of the table")
    parser.add_argument("--csv", metavar="FILE", help="the same as a table of labels with a column for each class")
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FOLDER",
        help="new folder for copies of the photos with labels and scores beside them, and a teacher's regions in them",
    )
    return parser.parse_args()


def main() -> None:
    """Predict photos, and report; exit status 1 where one could not be read.

    Raises:
        InputError: an option or what it names is wrong.
    """
    args = parse_arguments()
    # What is printed may be read by a program.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("torch.fx").setLevel(logging.ERROR)  # speaks of Detectron2's code
    for option in ("topk", "batch_size"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise InputError(f"--{option.replace('_', '-')} {value}: is below 1; give 1 or more")
    if args.json == args.csv == STANDARD_INPUT:
        raise InputError("--json -, --csv -: only one of them can be printed; give the other a file")
    for path in filter(None, (args.json, args.csv)):
        if path != STANDARD_INPUT:
            check_writable(path)
    # A path may have bytes that are no text.
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
    report = predict_photos(
        find_photos(args.photos, sys.stdin),
        args.model,
        config=args.config_file,
        teacher=args.teacher,
        threshold=args.threshold,
        choice=Choice(args.topk, above_threshold=args.topk is None or args.threshold is not None),
        batch_size=args.batch_size,
        pictures=args.save,
    )
    if STANDARD_INPUT not in (args.json, args.csv):
        print(report.table())
    report.write(json=args.json, csv=args.csv)
    for failure in report.failures:
        sys.stderr.write(f"left out: {failure}\n")
    if report.failures:
        sys.stderr.write(f"{len(report.failures)} of {report.count} photos could not be read\n")
        sys.exit(1)
