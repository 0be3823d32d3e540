"""Predict the labels of any photos, with a trained student or a teacher."""

import argparse
import os
import sys
from pathlib import Path

from mlickd.cli.command_line import add_shard_argument, command_parser, exit_if_unreadable, positive_int
from mlickd.environment import keep_freed_memory
from mlickd.errors import InputError
from mlickd.export.hub_folder import is_hub_student
from mlickd.files import check_writable
from mlickd.prediction.photo_report import STDIO, PhotoReport, find_photos, write_text
from mlickd.prediction.predictor import load_model

EPILOG = """\
examples:
  Photos, folders and patterns, with the student that `quickstart` has chosen:
    mlickd predict ~/photos 'more/**/*.jpg' --model output/quickstart

  The three best classes of each photo, at any score:
    mlickd predict photo.jpg --model output/quickstart/seed1/distilled/prediction --topk 3

  With the teacher, which generates proposals, and its regions drawn on the photos:
    mlickd predict ~/photos --model output/quickstart/seed1/teacher --save output/predicted

  With an exported student, and photos that another command lists:
    find ~/photos -newer last.csv -name '*.jpg' | mlickd predict - --model student.onnx --csv today.csv

A class is predicted if its score reaches its threshold: --threshold, or the threshold that `mlickd tune-thresholds`
wrote into the run, or else TEST.THRESHOLD of the run. Unreadable photos are skipped and listed at the end.

Exit status: 0 if all photos were read, 1 if some were not, 2 if none were or the command is wrong.
"""


def _parse_arguments() -> argparse.Namespace:
    parser = command_parser(__doc__, EPILOG)
    photos_help = "photo, folder, pattern in quotes, or `-`: paths on standard input, one per line"
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help=photos_help)
    model_help = "run, output of quickstart or compare (or a seed in it), checkpoint, exported student, or "
    model_help += "USER/NAME on the Hub"
    parser.add_argument("--model", required=True, metavar="PATH", help=model_help)
    config_help = "configuration of a checkpoint (default: config.yaml next to the checkpoint)"
    parser.add_argument("--config-file", metavar="FILE", help=config_help)
    topk_help = "show the K best classes, at any score unless --threshold is given; at most K labels in files"
    parser.add_argument("--topk", type=positive_int, metavar="K", help=topk_help)
    parser.add_argument("--threshold", type=float, metavar="T", help="threshold of all classes")
    batch_help = "photos per batch (default: TEST.IMS_PER_BATCH)"
    parser.add_argument("--batch-size", type=positive_int, metavar="N", help=batch_help)
    parser.add_argument("--json", metavar="FILE", help="write all scores as JSON; `-`: print them instead of the table")
    parser.add_argument("--csv", metavar="FILE", help="write all scores as CSV; `-`: print them instead of the table")
    save_help = "write copies of the photos, with labels, scores and a teacher's regions, into a new folder"
    parser.add_argument("--save", type=Path, metavar="FOLDER", help=save_help)
    add_shard_argument(parser, "predict part I of N of the photos; add I-of-N to the names of --json, --csv, --save")
    args = parser.parse_args()
    if args.json and args.json == args.csv:
        raise InputError(f"--json {args.json}, --csv {args.csv}: name another file for one of them")
    number, count = args.shard
    if count > 1:  # processes that share the photos write different files
        for option in ("json", "csv"):
            value = getattr(args, option)
            if value not in (None, STDIO):
                setattr(args, option, str(Path(value).with_suffix(f".{number}-of-{count}{Path(value).suffix}")))
        args.save = args.save and args.save / f"{number}-of-{count}"
    return args


def main() -> None:
    """Predict photos and report the result."""
    args = _parse_arguments()
    number, count = args.shard
    for path in filter(None, (args.json, args.csv)):
        if path != STDIO:
            check_writable(path)
    # A path may have bytes that are not valid UTF-8.
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")
    photos = find_photos(args.photos, sys.stdin)[number - 1 :: count]
    if not photos:
        sys.stderr.write(f"--shard {number}/{count}: this part has no photos\n")
        return
    source = args.model
    if not (source.lower().endswith(".onnx") or is_hub_student(source)):
        from mlickd.engine.processes import select_local_gpu  # here, because exported students run without Detectron2
        from mlickd.runs import find_run

        select_local_gpu("cuda")
        source = find_run(source) if os.path.isdir(source) else source
    if args.save is not None:
        args.save.mkdir(parents=True, exist_ok=True)
        if any(args.save.iterdir()):
            raise InputError(f"--save {args.save}: is not empty; name a new folder")
        from mlickd.visualization.figures import draw_prediction, save_figure_of_photo  # the font is Matplotlib's

    keep_freed_memory()
    predictor = load_model(source, args.config_file, args.threshold)
    report = PhotoReport(str(source), predictor, args.topk, args.topk is None or args.threshold is not None)
    for prediction in report.predict(photos, args.batch_size):
        if args.save is not None:
            shown = report.shown(prediction) or prediction.top(1)
            rows = [(name, score, name in prediction.labels) for name, score in shown]
            figure = draw_prediction(prediction.name, rows, prediction.regions, prediction.class_names)
            save_figure_of_photo(figure, args.save, prediction.name)
    if STDIO not in (args.json, args.csv):
        print(report.table())
    for path, content in ((args.json, report.as_json), (args.csv, report.as_csv)):
        if path is not None:
            write_text(path, content())
    exit_if_unreadable(report.failures, len(photos))
