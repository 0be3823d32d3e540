"""Write the student of a finished run as an ONNX file, which runs without this project, or for the Hugging Face Hub."""

import sys
from pathlib import Path

from mlickd.cli.command_line import command_parser, exit_if_unreadable, positive_int
from mlickd.data.user_photos import photo_records
from mlickd.export import load_exported
from mlickd.export.exported_classifier import import_optional
from mlickd.export.hub_export import write_hub_folder
from mlickd.export.hub_folder import push_to_hub
from mlickd.export.onnx_export import export_student
from mlickd.export.parity import (
    DECISION_TOLERANCE,
    PILLOW_TOLERANCE,
    PIXEL_TOLERANCE,
    check_parity,
    parity_table,
    records_to_check,
)
from mlickd.runs import find_run

EPILOG = f"""\
example, which also compares the file with PyTorch on your own photos:
  mlickd export --run output/holiday/seed1/distilled/prediction --output holiday.onnx \\
      --check --photos ~/photos

example, which writes a folder with a model card, and uploads it after you have edited the card (log in with `hf auth
login`):
  mlickd export --run output/holiday --hub holiday --license cc-by-4.0
  mlickd export --hub holiday --push user/holiday

ONNX Runtime and other programs run the ONNX file. It accepts batches of any size. It contains the class names, the
thresholds (one per class if `mlickd tune-thresholds` has written them) and the way to resize photos.

The check compares the scores of the file and of PyTorch. It exits with status 1 if scores of the same pixels differ by
more than {PIXEL_TOLERANCE:g}, if scores of photos that Pillow resizes differ by more than {PILLOW_TOLERANCE:g} on
average, if more than {DECISION_TOLERANCE:.1%} of the decisions differ, or if a photo cannot be read.
"""


def main() -> None:
    """Write the ONNX file and, with ``--check``, compare it with PyTorch."""
    parser = command_parser(__doc__, EPILOG)
    run_help = "OUTPUT_DIR of a finished student, or output of quickstart or compare (or a seed in it)"
    parser.add_argument("--run", metavar="FOLDER", help=run_help)
    targets = parser.add_mutually_exclusive_group(required=True)
    targets.add_argument("--output", type=Path, metavar="FILE", help="file to write, ending in .onnx")
    targets.add_argument("--hub", type=Path, metavar="FOLDER", help="folder to write for the Hub, with a model card")
    push_help = "upload the folder of --hub; without --run, an existing folder; a new model is public"
    parser.add_argument("--push", metavar="USER/NAME", help=push_help)
    parser.add_argument("--license", metavar="ID", help="license of the model (default: not stated in its card)")
    parser.add_argument("--check", action="store_true", help="compare the file with PyTorch on photos")
    parser.add_argument("--dataset", metavar="NAME", help="dataset to check (default: the first of DATASETS.TEST)")
    parser.add_argument("--photos", nargs="+", metavar="PATH", help="photos, folders or patterns")
    number_help = "number of random images of the dataset (default: all)"
    parser.add_argument("--num-images", type=positive_int, metavar="N", help=number_help)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choice (default: 0)")
    args = parser.parse_args()
    if not args.check and (args.dataset or args.photos or args.num_images is not None):
        parser.error("--dataset, --photos and --num-images require --check")
    if args.hub and args.check or not args.hub and (args.push or args.license):
        parser.error("--check requires --output; --push and --license require --hub")
    if not args.run and (not args.push or args.license):
        parser.error("give --run, or only --hub FOLDER --push USER/NAME, which uploads an existing folder")
    if args.push and args.push.count("/") != 1:
        parser.error(f"--push {args.push}: give USER/NAME")
    if args.photos and (args.dataset or args.num_images is not None):
        parser.error("--photos replaces --dataset and --num-images; give only --photos, or only the others")
    if args.hub:
        if args.run:
            write_hub_folder(find_run(args.run), args.hub, args.push, args.license)
        print(push_to_hub(args.hub, args.push) if args.push else f"{args.hub / 'README.md'}: read this model card")
        return
    run, records, failures = find_run(args.run), [], []
    if args.check:  # find problems before the file is written
        import_optional("onnxruntime", "--check")
        if args.photos:
            records = photo_records(args.photos, failures)
        else:
            records = records_to_check(run, args.dataset, args.num_images, args.seed)
    cfg, model, metadata = export_student(run, args.output)
    size = f"{args.output.stat().st_size / 1e6:.1f} MB"
    print(f"{args.output}: {size}, {len(metadata.class_names)} classes, thresholds: {metadata.thresholds_from}")
    if not args.check:
        return
    rows = check_parity(cfg, model, load_exported(args.output), records)
    print(f"\n{parity_table(rows)}\n{len(records)} photos")
    problems = [row.problem for row in rows if row.problem]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    exit_if_unreadable(failures, len(records) + len(failures))
    sys.exit(1 if problems else 0)
