"""Run the whole method on one dataset: proposals, teacher, its knowledge of the training images, baseline, both
stages of distillation, evaluation, tables, curves and the gallery."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from mlickd.cli.command_line import command_parser, read_seeds, typed_command
from mlickd.cli.repository import scripts_folder, shipped_config
from mlickd.evaluation.cost import inference_cost
from mlickd.runs import load_run
from mlickd.studies.comparison import Comparison
from mlickd.studies.comparison_report import write_comparison_report
from mlickd.studies.jobs import run_jobs
from mlickd.studies.methods import BASELINE, DISTILLED, choose_methods
from mlickd.visualization.run_gallery import write_gallery_of_runs

EPILOG = """\
examples:
  The procedural dataset, which needs no download:
    python tools/quickstart.py

  Your own photos, a folder dataset in $DETECTRON2_DATASETS (see datasets/README.md), with three seeds:
    python tools/quickstart.py --configs configs/folder --train animals_train --test animals_test \\
        --seeds 1,2,3 --output output/animals
"""


def parse_arguments() -> argparse.Namespace:
    """Parse the options of the command."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument(
        "--configs", type=Path, metavar="FOLDER", help="with wsd.yaml, cls.yaml and kd.yaml (default: configs/scenes)"
    )
    parser.add_argument("--train", default="scenes_train", metavar="NAME", help="training dataset")
    parser.add_argument("--test", default="scenes_test", metavar="NAME", help="test dataset")
    parser.add_argument(
        "--proposals", "--method", default="edge_boxes", metavar="METHOD", help="how proposals are made"
    )
    parser.add_argument("--seeds", type=read_seeds, default=[1], metavar="1,2,3", help="one run each (default: 1)")
    parser.add_argument(
        "--output", type=Path, default=Path("output/quickstart"), metavar="FOLDER", help="default: output/quickstart"
    )
    parser.add_argument(
        "--teacher", type=Path, metavar="FOLDER", help="a finished teacher for all seeds (default: train one for each)"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="for all configurations")
    return parser.parse_args()


def main() -> None:
    """Train the models of each seed, and write the report; the exit status is 1 if a run has failed.

    Raises:
        InputError: an option or what it names is wrong.
    """
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    configs = args.configs or shipped_config("--configs", "scenes")
    comparison = Comparison(
        configs=configs,
        train=args.train,
        test=args.test,
        folder=args.output,
        methods=choose_methods(configs, [BASELINE, DISTILLED], {}, args.opts, args.output),
        seeds=args.seeds,
        proposals=args.proposals,
        options=args.opts,
        tools=scripts_folder(),
        teacher=args.teacher,
        teacher_per_seed=args.teacher is None,
    )
    if failures := run_jobs(comparison.jobs(), args.output):
        print("\n".join(failures), file=sys.stderr)
        sys.exit(1)
    folders = {BASELINE: None, DISTILLED: None, "teacher": args.teacher}
    # The gallery and the costs are those of the first seed.
    folders |= {model.method: model.folder for model in reversed(comparison.models)}
    costs = {name: inference_cost(*load_run(str(folder)), args.test) for name, folder in folders.items()}
    text, _ = write_comparison_report(comparison, costs=costs, command=typed_command())
    write_gallery_of_runs(args.test, args.output / "gallery", **folders)
    print(f"\n{text}\nIn {args.output}: comparison.md, curves.png, classes.png, gallery/index.html, gallery/plots.html")
