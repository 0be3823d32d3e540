"""Train several methods with several seeds on one dataset. Write a table of means, standard deviations and paired
differences to the baseline, and charts."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from mlickd.cli.command_line import command_parser, positive_int, read_seeds, typed_command
from mlickd.config_files import CONFIGS, find_config
from mlickd.data.catalog import class_names
from mlickd.data.parts import DatasetPart, part_for_seed, whole_name
from mlickd.errors import InputError
from mlickd.studies.comparison import Comparison
from mlickd.studies.comparison_report import write_comparison_report
from mlickd.studies.jobs import jobs_to_run, run_jobs
from mlickd.studies.model_selection import select_student
from mlickd.studies.training_methods import BASELINE, TEACHER, choose_methods, load_method

EPILOG = """\
examples:
  The baseline and the paper's method, on the synthetic dataset, which needs no download:
    mlickd compare --methods baseline,distilled --seeds 1,2,3

  All methods, two trainings at a time, on your own photos, a folder dataset in $DETECTRON2_DATASETS:
    mlickd compare --configs configs/folder --train pets_train --test pets_test \\
        --seeds 1,2,3 --jobs 2 --output output/pets_comparison

  Few labels and many photos, with a different part of the labels for each seed:
    mlickd compare --train 'scenes_train@{seed}of8' --unlabeled 'scenes_train@not{seed}of8' --teacher-per-seed

  A custom method. Its file contains only the keys whose values differ from kd.yaml:
    mlickd compare --methods baseline,distilled --method-file all_regions=all_regions.yaml

  Only the commands that would run, and only the table of the finished runs:
    mlickd compare --seeds 1,2,3 --dry-run
    mlickd compare --seeds 1,2,3 --table-only

In the folder --configs, wsd.yaml is the teacher, cls.yaml the method `baseline` and kd.yaml the method `distilled`.
Any other method is a file with the keys that differ from kd.yaml: a file in configs/methods, a file in methods/ of
--configs (added to the file of the same name in configs/methods), or a --method-file. A method file may set
KD.TEACHER.WEIGHTS (with --teacher-per-seed also {seed} in the path), KD.CACHE and DATASETS. These files and datasets
must exist, and DATASETS.TRAIN must have the labeled photos of --train. Distilled students also learn from the photos of
--unlabeled, unless their file sets DATASETS.

Teachers and baselines train first, and the command prints their results on the held-out images. At the end, it chooses
the method with the best mAP there. If you give the folder --output to `mlickd predict`, `export` or `visualize`, they
use the student of this method.

To continue after an interruption, give the same command again. It repeats failed runs, and finished runs whose input
has changed. The exit status is 1 if a run has failed, and 2 if the command is wrong.
"""


def main() -> None:
    """Run the missing jobs, and write the report; the exit status is 1 if a run has failed."""
    # The first call of basicConfig counts, not the call in command_parser.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    parser = command_parser(__doc__, EPILOG)
    teacher = add_training_options(parser, seeds=[1, 2, 3], output=Path("output/comparison"))
    teacher.add_argument("--teacher-per-seed", action="store_true", help="train a teacher for each seed")
    parser.add_argument("--methods", default="", metavar="NAME,NAME", help="methods (default: all)")
    file_help = "add a method; may be repeated"
    parser.add_argument("--method-file", action="append", default=[], metavar="NAME=FILE", help=file_help)
    jobs_help = "simultaneous runs, which share the cores (default: 1)"
    parser.add_argument("--jobs", type=positive_int, default=1, metavar="N", help=jobs_help)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--dry-run", action="store_true", help="print the commands that would run")
    action.add_argument("--table-only", action="store_true", help="only write the report of the finished runs")
    args = parser.parse_args()
    names = [name for name in args.methods.split(",") if name]
    comparison = make_comparison(args, names, teacher_per_seed=args.teacher_per_seed)
    if args.dry_run:
        print("\n".join(job.shell_command for job in jobs_to_run(comparison.jobs())))
        return
    if not args.table_only:
        run_comparison(comparison, args.jobs)
    text, failures = write_comparison_report(comparison, command=typed_command())
    print(f"\n{text}")
    sys.exit(1 if failures else 0)


def add_training_options(parser: argparse.ArgumentParser, seeds: list[int], output: Path) -> argparse._ActionsContainer:
    """Add the options of :func:`make_comparison` with the given defaults, and return the group of ``--teacher``."""
    configs_help = "folder of wsd.yaml, cls.yaml and kd.yaml (default: configs/folder; for scenes configs/scenes)"
    parser.add_argument("--configs", metavar="FOLDER", help=configs_help)
    parser.add_argument("--train", default="scenes_train", metavar="NAME", help="labeled data (default: scenes_train)")
    unlabeled_help = "datasets from which distilled students also learn, without their labels (default: none)"
    parser.add_argument("--unlabeled", default="", metavar="NAME,NAME", help=unlabeled_help)
    held_out_help = "hold out one of N parts of the training images, and choose a student there (default: 5; 0: none)"
    parser.add_argument("--held-out", type=_held_out_parts, default=5, metavar="N", help=held_out_help)
    parser.add_argument("--test", default="scenes_test", metavar="NAME", help="test dataset (default: scenes_test)")
    parser.add_argument(
        "--proposals", default="edge_boxes", metavar="METHOD", help="proposal method (default: edge_boxes)"
    )
    shown = ",".join(map(str, seeds))
    parser.add_argument("--seeds", type=read_seeds, default=seeds, metavar="1,2,3", help=f"seeds (default: {shown})")
    parser.add_argument(
        "--output", type=Path, default=output, metavar="FOLDER", help=f"folder of all results (default: {output})"
    )
    teacher = parser.add_mutually_exclusive_group()
    teacher.add_argument("--teacher", type=Path, metavar="FOLDER", help="a finished teacher (default: train one)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="options for teacher and students")
    return teacher


def _held_out_parts(text: str) -> int:
    if not text.isdecimal() or int(text) == 1:
        raise argparse.ArgumentTypeError(f"{text}: give 0, or a number of parts, 2 or more")
    return int(text)


def make_comparison(
    args: argparse.Namespace, names: Sequence[str], teacher_per_seed: bool, held_out: str = ""
) -> Comparison:
    """Return the comparison with the options of :func:`add_training_options`, and methods from ``--method-file``.

    Args:
        args: parsed options.
        names: names of the methods; empty for all.
        teacher_per_seed: train a teacher for each seed.
        held_out: name of a dataset to choose a student; by default one of ``--held-out`` parts of ``--train``.

    Raises:
        InputError: an option, or a file or dataset that it names, is wrong.
    """
    train, unlabeled = args.train, [name for name in args.unlabeled.split(",") if name]
    if args.held_out and not held_out:
        part = DatasetPart(train, 1, args.held_out)
        train, held_out = str(part._replace(others=True)), str(part)
    for seed in args.seeds:
        for name in unlabeled:
            class_names(part_for_seed(name, seed))
        if class_names(name := part_for_seed(train, seed)) != class_names(args.test):
            raise InputError(f"--test {args.test}: has other classes than {name}")
    scenes = whole_name(train) in ("scenes_train", "scenes_test")
    configs = Path(find_config(args.configs or f"configs/{'scenes' if scenes else 'folder'}"))
    files: dict[str, list[Path]] = {}
    for folder in (CONFIGS / "methods", configs / "methods"):
        for path in sorted(folder.glob("*.yaml")):
            files.setdefault(path.stem, []).append(path)
    for pair in getattr(args, "method_file", ()):
        name, _, file = pair.partition("=")
        if not (name and file) or name in files:
            raise InputError(f"--method-file {pair}: give a new name and a file, as in mine=mine.yaml")
        files[name] = [Path(find_config(file))]
        if names and name not in names:
            names = [*names, name]
    shared = {"train": train, "options": args.opts}
    return Comparison(
        teacher_method=load_method(TEACHER, [configs.resolve() / "wsd.yaml"], **shared),
        methods=choose_methods(configs, names, files, unlabeled=unlabeled, **shared),
        test=args.test,
        held_out=held_out,
        folder=args.output,
        seeds=args.seeds,
        proposals=args.proposals,
        options=args.opts,
        teacher=args.teacher,
        teacher_per_seed=teacher_per_seed,
    )


def run_comparison(comparison: Comparison, num_jobs: int = 1) -> list[str]:
    """Run all jobs, teachers and baselines first if photos are held out; return a line for each failure."""
    if not comparison.held_out:
        return run_jobs(comparison.jobs(), comparison.folder, num_jobs)
    first = [job for model in comparison.models if model.method in (TEACHER, BASELINE) for job in model.jobs]

    def show() -> None:
        print(f"\n{select_student(comparison)[0]}\n", flush=True)

    return run_jobs(comparison.jobs(), comparison.folder, num_jobs, first, show)
