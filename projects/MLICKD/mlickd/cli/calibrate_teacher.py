"""Calibrate the image scores of a teacher, class by class, on images that it was not trained on."""

import argparse
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.errors import InputError
from mlickd.studies.held_out import calibrate_cache, calibrate_run

EPILOG = """\
examples:
  A teacher that is trained on three quarters of the photos and calibrated on the others. Distillation uses the result
  with KD.PREDICTION.CALIBRATION output/calibration.json:
    mlickd train --config-file configs/folder/wsd.yaml OUTPUT_DIR output/teacher \\
        DATASETS.TRAIN "('pets_train@not1of4',)" DATASETS.TEST "('pets_train@1of4',)"
    mlickd calibrate-teacher --run output/teacher --flip --dataset pets_train@1of4 \\
        --output output/calibration.json

  Cross-fitted teachers and their cache, with the configuration that `mlickd cross-fit` writes:
    mlickd calibrate-teacher --config-file output/cross/kd.yaml --output output/calibration.json
"""


def main() -> None:
    """Fit the calibration, and write it."""
    parser = command_parser(__doc__, EPILOG, log_level="INFO")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, metavar="FOLDER", help="OUTPUT_DIR of the teacher; requires --dataset")
    source.add_argument("--config-file", metavar="FILE", help="distillation with a cross-fitted KD.CACHE")
    parser.add_argument("--dataset", metavar="NAME", help="labeled images that the teacher was not trained on")
    parser.add_argument("--checkpoint", metavar="FILE", help="checkpoint in --run (default: model_final.pth)")
    parser.add_argument("--temperature", type=float, metavar="T", help="KD.PREDICTION.TEACHER_TEMPERATURE (default: 1)")
    parser.add_argument("--flip", action="store_true", help="average over mirror images, like KD.TEACHER.FLIP True")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="calibration to write")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="options for --config-file")
    args = parser.parse_args()
    for_run = {"checkpoint": args.checkpoint, "temperature": args.temperature, "flip": args.flip or None}
    for_run = {name: value for name, value in for_run.items() if value is not None}
    if args.config_file and (args.dataset or for_run):
        raise InputError("--dataset, --checkpoint, --temperature, --flip: require --run; the cache defines them")
    if args.config_file:
        calibration = calibrate_cache(args.config_file, args.opts)
    elif args.dataset is None or args.opts:
        raise InputError("--run: give it with --dataset and without KEY VALUE pairs")
    else:
        calibration = calibrate_run(args.run, args.dataset, **for_run)
    calibration.save(args.output)
    print(f"{args.output}: {len(calibration.classes)} classes")
