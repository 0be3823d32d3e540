"""Make the region proposals that weakly-supervised detection trains on, once for each data set."""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path

from mlickd.data import ProposalStore, dataset_records, proposals_path
from mlickd.data.proposal_generation import generate_proposals
from mlickd.data.proposal_methods import PROPOSAL_METHODS
from mlickd.errors import InputError, run_tool

EPILOG = """\
example:
  DETECTRON2_DATASETS=~/datasets python tools/generate_proposals.py --dataset animals_train animals_test \\
      --method edge_boxes

A run that was stopped goes on where it was; one whose file is there already ends at once.
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    methods = ", ".join(sorted(name for name, _ in PROPOSAL_METHODS))
    parser.add_argument("--dataset", nargs="+", required=True, metavar="NAME", help="registered or folder data sets")
    parser.add_argument("--method", default="edge_boxes", help=f"{methods} (default: %(default)s)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="with a single data set (default: $DETECTRON2_DATASETS/proposals/<dataset>_<method>.proposals)",
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
    return parser.parse_args()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = parse_arguments()
    if arguments.output and len(arguments.dataset) > 1:
        raise InputError("--output: names one file; give a single --dataset with it")
    if arguments.workers is not None and arguments.workers < 0:
        raise InputError(f"--workers: {arguments.workers} is below 0; give a number of processes")
    parameters = {name: _value(text) for name, text in arguments.set}
    if arguments.max_proposals is not None:
        parameters["max_proposals"] = arguments.max_proposals
    for name in arguments.dataset:
        records = dataset_records(name)
        start = time.perf_counter()
        path = arguments.output or proposals_path(name, arguments.method)
        path = generate_proposals(records, arguments.method, parameters, path, arguments.workers)
        store = ProposalStore.open(path)
        store.check(records)
        seconds = time.perf_counter() - start
        each = store.header["num_boxes"] / len(store)
        print(f"{path}: {len(store)} images, {each:.1f} proposals per image, {seconds:.1f} s", flush=True)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    run_tool(main)
