"""Train K teachers, each on all parts of a dataset but one, and keep what each says of the part it has not seen."""

from __future__ import annotations

import argparse
import logging
import shlex
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.cli.repository import scripts_folder
from mlickd.studies.cross_fitting import CrossFitting

EPILOG = """\
example:
  python tools/cross_fit.py --config-file configs/scenes/wsd.yaml --kd-config configs/scenes/kd.yaml \\
      --dataset scenes_train --parts 3 --output output/cross
  and then, with the configuration that it leaves, a student, or its comparison with others:
  python tools/train_net.py --config-file output/cross/kd.yaml --kd-stage feature
  python tools/train_net.py --config-file output/cross/kd.yaml --kd-stage prediction
  python tools/compare.py --methods baseline,distilled --method-file cross_fitted=output/cross/kd.yaml

The same command goes on where it was stopped; what is done is not done again.
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument("--config-file", type=Path, required=True, metavar="FILE", help="of the teachers")
    parser.add_argument("--kd-config", type=Path, required=True, metavar="FILE", help="of the distillation")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="training dataset, which is dealt into parts")
    parser.add_argument("--parts", type=int, default=3, metavar="K", help="parts, and teachers (default: 3)")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="of the results")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="of both configurations")
    return parser.parse_args()


def main() -> None:
    """Train the teachers, and keep what they say.

    Raises:
        InputError: an option or what it names is wrong.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = parse_arguments()
    cross_fitting = CrossFitting(
        arguments.config_file,
        arguments.kd_config,
        arguments.dataset,
        arguments.parts,
        arguments.output,
        arguments.opts,
        scripts_folder(),
    )
    cross_fitting.run()
    print("Train the student with:", shlex.join(["--config-file", str(cross_fitting.method)]))
