"""Calibrate a teacher's image scores, class by class, on photos that it was not trained on."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.errors import InputError
from mlickd.studies.calibrating import calibrate_cache, calibrate_run

EPILOG = """\
example:
  python tools/train_net.py --config-file configs/folder/wsd.yaml OUTPUT_DIR output/teacher \\
      DATASETS.TRAIN "('animals_train@not1of4',)" DATASETS.TEST "('animals_train@1of4',)"
  python tools/calibrate_teacher.py --run output/teacher --dataset animals_train@1of4 --output output/calibration.json
  and then distil with KD.PREDICTION.CALIBRATION output/calibration.json

  Of teachers that were cross-fitted, from their cache (with the configuration that tools/cross_fit.py leaves):
  python tools/calibrate_teacher.py --config-file output/cross/kd.yaml --output output/calibration.json
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="of the teacher's training")
    parser.add_argument("--dataset", metavar="NAME", help="photos with labels that the teacher was not trained on")
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="name of the teacher's checkpoint in --run (default: model_final.pth)",
    )
    parser.add_argument("--temperature", type=float, metavar="T", help="KD.PREDICTION.TEACHER_TEMPERATURE (default: 1)")
    parser.add_argument("--flip", action="store_true", help="as with KD.TEACHER.FLIP True")
    parser.add_argument("--config-file", metavar="FILE", help="of the distillation, to read a cross-fitted KD.CACHE")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the calibration")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="of the configuration")
    return parser.parse_args()


def main() -> None:
    """Fit the calibration, and write it.

    Raises:
        InputError: an option or what it names is wrong.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = parse_arguments()
    if (arguments.run is None) == (arguments.config_file is None):
        raise InputError("give --run and --dataset for one teacher, or --config-file and options for a cache")
    of_run = (arguments.dataset, arguments.checkpoint, arguments.temperature, arguments.flip or None)
    if arguments.run is None and any(value is not None for value in of_run):
        raise InputError(
            "--dataset, --checkpoint, --temperature and --flip go with --run; leave them out for a cache, "
            "which has those of its configuration"
        )
    if arguments.run is None:
        calibration = calibrate_cache(arguments.config_file, arguments.opts)
    elif arguments.dataset is None or arguments.opts:
        raise InputError("--run has no options of a configuration; give --dataset and --temperature")
    else:
        calibration = calibrate_run(
            arguments.run,
            arguments.dataset,
            checkpoint=arguments.checkpoint or "model_final.pth",
            temperature=1.0 if arguments.temperature is None else arguments.temperature,
            flip=arguments.flip,
        )
    calibration.save(arguments.output)
    print(f"{arguments.output}: {len(calibration.classes)} classes")
