"""Run the whole method on one dataset: proposals, teacher, knowledge cache, baseline, the distillation, evaluation,
tables, curves and the gallery."""

import itertools
import logging
import os
import shlex
import statistics
import time
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import nn

from mlickd.cli.command_line import command_parser, typed_command
from mlickd.cli.compare import add_training_options, make_comparison, run_comparison
from mlickd.config_files import find_config
from mlickd.data.build import build_test_mapper
from mlickd.data.catalog import dataset_records
from mlickd.data.splitting import split_photos
from mlickd.errors import InputError, ProcessError
from mlickd.files import check_writable
from mlickd.runs import load_run
from mlickd.studies.comparison_report import write_comparison_report
from mlickd.studies.model_selection import describe_student
from mlickd.studies.training_methods import BASELINE, DISTILLED, choose_methods
from mlickd.visualization.run_gallery import write_gallery_of_runs

EPILOG = """\
examples:
  The synthetic dataset, which needs no download:
    mlickd quickstart

  Your own photos, from a folder and a file with labels of some of them:
    mlickd quickstart --photos ~/holiday --labels holiday.csv --output output/holiday

  A folder dataset in $DETECTRON2_DATASETS (pets/images, pets/classes.txt, pets/labels_train.csv and labels_test.csv),
  with three seeds:
    mlickd quickstart --configs configs/folder --train pets_train --test pets_test \\
        --seeds 1,2,3 --output output/pets

  Few labels and many photos: teacher and baseline learn from the labeled photos only, the student from all:
    mlickd quickstart --configs configs/folder --train pets_labeled --unlabeled pets_more \\
        --test pets_test --output output/pets_labeled

Exit status: 0 if all models were trained, 1 if a run has failed, 2 if the command is wrong. Photos of --photos that
cannot be read do not change the status; they are skipped and listed at the end.
"""


def main() -> None:
    """Train the models of each seed, and write the report; the exit status is 1 if a run has failed."""
    parser = command_parser(__doc__, EPILOG, log_level="INFO")
    add_training_options(parser, seeds=[1], output=Path("output/quickstart"))
    photos_help = "photos for training and test; --unlabeled is then a folder"
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help=photos_help)
    parser.add_argument("--labels", type=Path, metavar="FILE", help="labels of --photos; other photos are unlabeled")
    parser.set_defaults(train="", test="")
    args, held_out, problems = parser.parse_args(), "", []
    if args.photos or args.labels:
        if not (args.photos and args.labels) or args.train or args.test:
            raise InputError("--photos FOLDER, --labels FILE: give both, without --train and --test")
        # Wrong options stop before the photos are read, which can take minutes.
        configs = Path(find_config(args.configs or "configs/folder"))
        choose_methods(configs, [BASELINE, DISTILLED], {}, train="", options=args.opts)
        check_writable(args.output / "data/photos/classes.txt")
        others, problems = split_photos(args.photos, args.labels, args.unlabeled, args.output, args.held_out)
        args.train, args.test, args.unlabeled = "photos_train", "photos_test", "photos_unlabeled" if others else ""
        held_out = "photos_held_out" if args.held_out else ""
        os.environ["DETECTRON2_DATASETS"] = str(args.output.resolve() / "data")
        logging.info("  $ export DETECTRON2_DATASETS=%s", shlex.quote(os.environ["DETECTRON2_DATASETS"]))
    args.train, args.test = args.train or "scenes_train", args.test or "scenes_test"
    comparison = make_comparison(args, [BASELINE, DISTILLED], args.teacher is None, held_out)
    if failures := run_comparison(comparison):
        raise ProcessError("\n".join(failures))
    # In reverse order, because the models of the first seed must replace the others.
    folders = {"teacher": args.teacher} | {model.method: model.folder for model in reversed(comparison.models)}
    costs = {name: _inference_cost(*load_run(folder), args.test) for name, folder in folders.items()}
    text, _ = write_comparison_report(comparison, costs=costs, command=typed_command())
    write_gallery_of_runs(args.test, args.output / "gallery", **folders)
    print(f"\n{text}\nIn {args.output}: comparison.md, curves.png, classes.png, gallery/index.html, gallery/plots.html")
    if problems:
        print("\n".join([f"\nPhotos that cannot be read and were skipped: {len(problems)}", *problems]))
    if args.photos:
        print(f"\n{describe_student(comparison, args.unlabeled)}")


def _inference_cost(cfg: CfgNode, model: nn.Module, dataset: str) -> dict[str, float]:
    """Return the ``parameters`` in millions and the median ``milliseconds`` for the scores of a decoded image."""
    warm_up, measured = 3, 20
    mapper = build_test_mapper(cfg, dataset, can_propose=True)
    samples = [mapper(record) for record in dataset_records(dataset, boxes=False)[: warm_up + measured]]
    seconds = []
    with torch.inference_mode():
        for sample in itertools.islice(itertools.cycle(samples), warm_up + measured):
            start = time.perf_counter()
            model([sample])
            if cfg.MODEL.DEVICE.startswith("cuda"):
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return {
        "parameters": sum(p.numel() for p in model.parameters()) / 1e6,
        "milliseconds": 1000 * statistics.median(seconds[warm_up:]),
    }
