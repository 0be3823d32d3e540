"""Calibrate the image scores of a teacher, class by class, on images that it was not trained on."""

import argparse
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.studies.held_out import calibrate_cache, calibrate_on_dataset

EPILOG = """\
examples:
  A teacher that is trained on three quarters of the photos and calibrated on the others. Distillation uses the result
  with KD.PREDICTION.CALIBRATION output/calibration.json:
    mlickd train --config-file configs/folder/wsd.yaml OUTPUT_DIR output/teacher \\
        DATASETS.TRAIN "('pets_train@not1of4',)" DATASETS.TEST "('pets_train@1of4',)"
    mlickd calibrate-teacher --config-file configs/folder/kd.yaml --dataset pets_train@1of4 \\
        --output output/calibration.json KD.TEACHER.WEIGHTS output/teacher/model_final.pth

  Cross-fitted teachers and their cache, with the configuration that `mlickd cross-fit` writes:
    mlickd calibrate-teacher --config-file output/cross/kd.yaml --output output/calibration.json

The keys of KD in the configuration must be those of the distillation that uses the calibration.
"""


def main() -> None:
    """Fit the calibration, and write it."""
    parser = command_parser(__doc__, EPILOG, log_level="INFO")
    parser.add_argument("--config-file", required=True, metavar="FILE", help="configuration of the distillation")
    dataset_help = "labeled images that the teacher was not trained on (default: the images of a cross-fitted KD.CACHE)"
    parser.add_argument("--dataset", metavar="NAME", help=dataset_help)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="calibration to write")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="values that override the file")
    args = parser.parse_args()
    if args.dataset:
        calibration = calibrate_on_dataset(args.config_file, args.opts, args.dataset)
    else:
        calibration = calibrate_cache(args.config_file, args.opts)
    calibration.save(args.output)
    print(f"{args.output}: {len(calibration.classes)} classes")
