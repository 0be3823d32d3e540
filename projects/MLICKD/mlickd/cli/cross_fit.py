"""Train K teachers, each on all parts of a dataset except one, and cache their outputs for the parts left out."""

import argparse
from pathlib import Path

from mlickd.cli.command_line import command_parser, positive_int
from mlickd.config_files import find_config
from mlickd.errors import ProcessError
from mlickd.studies.cross_fitting import cross_fitting_jobs
from mlickd.studies.jobs import run_jobs

EPILOG = """\
example:
  mlickd cross-fit --config-file configs/scenes/wsd.yaml --kd-config configs/scenes/kd.yaml \\
      --dataset scenes_train --parts 3 --output output/cross

  A student with the configuration output/cross/kd.yaml, which this command writes, or a comparison with other methods:
  mlickd train --config-file output/cross/kd.yaml --kd-stage feature
  mlickd train --config-file output/cross/kd.yaml --kd-stage prediction
  mlickd compare --held-out 0 --methods baseline,distilled --method-file cross_fitted=output/cross/kd.yaml

To continue after an interruption, give the same command again. Finished runs stay.
"""


def main() -> None:
    """Train the teachers, and cache their outputs."""
    parser = command_parser(__doc__, EPILOG, log_level="INFO")
    file = {"type": lambda path: Path(find_config(path)), "required": True, "metavar": "FILE"}
    parser.add_argument("--config-file", **file, help="configuration of the teachers")
    parser.add_argument("--kd-config", **file, help="configuration of the distillation")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="training dataset, which is split into parts")
    parser.add_argument(
        "--parts", type=positive_int, default=3, metavar="K", help="number of parts and teachers (default: 3)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder of the results")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="options for both configurations")
    args = parser.parse_args()
    paths = (args.config_file, args.kd_config, args.dataset, args.parts, args.output)
    if failures := run_jobs(cross_fitting_jobs(*paths, args.opts), args.output):
        raise ProcessError("\n".join(failures))
    print(f"Train the student with: --config-file {args.output.resolve() / 'kd.yaml'}")
