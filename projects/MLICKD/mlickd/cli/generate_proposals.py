"""Make the region proposals that weakly-supervised detection trains on, once for each dataset."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from mlickd.cli.command_line import command_parser, parse_shard
from mlickd.data import ProposalStore, dataset_records, proposals_path
from mlickd.data.parts import whole_name
from mlickd.data.photos import photo_records
from mlickd.data.proposals.generation import generate_proposals, shard_records
from mlickd.data.proposals.methods import PROPOSAL_METHODS, parameter_value
from mlickd.data.proposals.shards import merge_shards
from mlickd.errors import InputError, run_tool

EPILOG = """\
example:
  DETECTRON2_DATASETS=~/datasets python tools/generate_proposals.py --dataset animals_train animals_test \\
      --method edge_boxes

  Any photos, of a folder or of a text file with one file name a line:
  python tools/generate_proposals.py --images ~/photos --output photos.proposals

  On three machines, each with all the photos:
  python tools/generate_proposals.py --dataset animals_train --shard 1/3   (2/3 and 3/3 on the others)
  and when the three files lie in one folder:
  python tools/generate_proposals.py --dataset animals_train --merge 3

A run that was stopped goes on where it was; one whose file is there already ends at once. The file is the same, byte by
byte, whatever the number of processes, interruptions and shards.
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EPILOG)
    methods = ", ".join(sorted(name for name, _ in PROPOSAL_METHODS))
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--dataset", nargs="+", metavar="NAME", help="registered or folder datasets")
    images.add_argument("--images", type=Path, metavar="PATH", help="folder of photos, or text file that lists them")
    parser.add_argument(
        "--image-root", type=Path, metavar="FOLDER", help="of the names in a list (default: the folder of the list)"
    )
    parser.add_argument("--method", default="edge_boxes", help=f"{methods} (default: %(default)s)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="with --images or one dataset (default: $DETECTRON2_DATASETS/proposals/<dataset>_<method>.proposals)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each core)")
    parser.add_argument("--max-proposals", type=int, metavar="N", help="kept of an image, best first (default: 500)")
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("PARAMETER", "VALUE"),
        help="another parameter of the method, such as `--set longer_side 500` or `--set mode quality`",
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--shard", metavar="I/N", help="make part I of N alone, beside the output")
    parts.add_argument("--merge", type=int, metavar="N", help="put the N parts beside the output together")
    return parser.parse_args()


def main() -> None:
    """Make proposals, a part of them, or one file of all parts.

    Raises:
        InputError: an option or what it names is wrong.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = parse_arguments()
    shard = check_arguments(arguments)
    parameters = {name: parameter_value(text) for name, text in arguments.set}
    if arguments.max_proposals is not None:
        parameters["max_proposals"] = arguments.max_proposals
    # Parts of a dataset share the proposals of the whole.
    for name in dict.fromkeys(map(whole_name, arguments.dataset)) if arguments.dataset else [None]:
        records = photo_records([arguments.images], arguments.image_root) if name is None else dataset_records(name)
        start = time.perf_counter()
        path = arguments.output or proposals_path(name, arguments.method)
        made = records
        if arguments.merge is not None:
            path = merge_shards(records, arguments.method, parameters, path, arguments.merge)
        else:
            path = generate_proposals(records, arguments.method, parameters, path, arguments.workers, shard)
            made = shard_records(records, *shard) if shard else records
        store = ProposalStore.open(path)
        store.check(made)
        seconds = time.perf_counter() - start
        each = store.header["num_boxes"] / max(len(store), 1)
        print(f"{path}: {len(store)} images, {each:.1f} proposals per image, {seconds:.1f} s", flush=True)


def check_arguments(arguments: argparse.Namespace) -> tuple[int, int] | None:
    """The shard, where one is asked for.

    Raises:
        InputError: options that do not go together or are out of range.
    """
    if arguments.output and arguments.dataset and len(arguments.dataset) > 1:
        raise InputError("--output: names one file; give a single --dataset with it")
    if arguments.images and not arguments.output:
        raise InputError("--images: photos of no dataset have no default place; give --output FILE")
    if arguments.image_root and not arguments.images:
        raise InputError("--image-root: is for the names in a list; give --images LIST with it")
    if arguments.workers is not None and arguments.workers < 0:
        raise InputError(f"--workers: {arguments.workers} is below 0; give a number of processes")
    if arguments.merge is not None and arguments.merge < 1:
        raise InputError(f"--merge: {arguments.merge} is below 1; give the number of shards")
    shard = parse_shard(arguments.shard)
    return None if shard == (1, 1) else shard


if __name__ == "__main__":  # so that a pipeline can start it where there is no tools/
    run_tool(main)
