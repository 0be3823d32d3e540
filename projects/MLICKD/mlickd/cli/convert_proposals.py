"""Import region proposals from the files of other projects, and export them for Detectron2."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.data import ProposalStore, class_names, dataset_records, proposals_path
from mlickd.data.parts import whole_name
from mlickd.data.proposals.files import (
    RELEASE_SIDE,
    import_proposals,
    read_detectron2_pickle,
    read_mcg_folder,
    read_release_list,
    read_voc_mat,
    write_detectron2_pickle,
)
from mlickd.errors import InputError

EPILOG = """\
formats:
  detectron2  pickle with ids, boxes and objectness_logits; only arrays and plain containers are read from it
  wsddn       EdgeBoxesVOC2007trainval.mat: boxes, boxScores and images
  oicr        voc_2007_trainval.mat of Fast R-CNN, OICR and PCL: boxes and images
  mcg         folder with a .mat of boxes and scores for each image
  release     text list of the authors' release: path, labels, then x0 y0 x1 y1 score for each proposal

example:
  python tools/convert_proposals.py import --format wsddn --input EdgeBoxesVOC2007test.mat \\
      --dataset voc_2007_test_multilabel
  python tools/convert_proposals.py export --input datasets/proposals/animals_train_edge_boxes.proposals \\
      --output animals_train.pkl

What was imported is used with DATASETS.PROPOSALS.METHOD <format>.
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EPILOG)
    commands = parser.add_subparsers(dest="command", required=True)
    importing = commands.add_parser("import", help="into a proposal store")
    importing.add_argument("--format", required=True, choices=["detectron2", "wsddn", "oicr", "mcg", "release"])
    importing.add_argument("--input", type=Path, required=True, metavar="PATH", help="the file, or the folder of mcg")
    importing.add_argument("--dataset", required=True, metavar="NAME", help="dataset with the images")
    importing.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the store (default: $DETECTRON2_DATASETS/proposals/<dataset>_<format>.proposals)",
    )
    importing.add_argument(
        "--side",
        type=float,
        metavar="PIXELS",
        help="boxes are in pixels of the image warped to a square of this side; 0: in those of the image itself "
        f"(default: {RELEASE_SIDE} for the format release, 0 for all others)",
    )
    exporting = commands.add_parser("export", help="a proposal store to a pickle for Detectron2")
    exporting.add_argument("--input", type=Path, required=True, metavar="FILE", help="a proposal store")
    exporting.add_argument("--output", type=Path, required=True, metavar="FILE", help="the pickle")
    return parser.parse_args()


def main() -> None:
    """Import or export proposals.

    Raises:
        InputError: an option or what it names is wrong.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = parse_arguments()
    if arguments.command == "export":
        store = ProposalStore.open(arguments.input)
        write_detectron2_pickle(store, arguments.output)
        print(f"{arguments.output}: {len(store)} images, {store.header['num_boxes']} proposals")
        return
    side = arguments.side
    if side is not None and not 0 <= side < 1e6:
        raise InputError(f"--side: {side} is no side of an image; give pixels, or 0")
    if side is None:
        side = RELEASE_SIDE if arguments.format == "release" else 0
    readers = {
        "detectron2": read_detectron2_pickle,
        "wsddn": read_voc_mat,
        "oicr": read_voc_mat,
        "mcg": read_mcg_folder,
        "release": lambda path: read_release_list(path, len(class_names(arguments.dataset))),
    }
    # Parts of a dataset share the proposals of the whole.
    records = dataset_records(whole_name(arguments.dataset))
    path = arguments.output or proposals_path(arguments.dataset, arguments.format)
    counts = import_proposals(
        readers[arguments.format](arguments.input),
        records,
        path,
        source=str(arguments.input),
        method=arguments.format,
        parameters={"imported": arguments.input.name, "side": side},
        side=side or None,
    )
    ProposalStore.open(path).check(records)
    print(f"{path}: {counts.images} images, {counts.boxes} proposals")
    if counts.other_images:
        print(f"left out: {counts.other_images} images that are not in {arguments.dataset}, like {counts.example}")
    if counts.empty_boxes:
        print(f"left out: {counts.empty_boxes} boxes without area")
