"""Measure the fraction of a dataset's objects that region proposals find, and compare methods."""

from pathlib import Path

import cv2

from mlickd.cli.command_line import command_parser, positive_int
from mlickd.data import dataset_records
from mlickd.evaluation.proposal_recall import evaluate_source, parse_sources, recall_table
from mlickd.files import check_writable, write_json

EPILOG = """\
example:
  mlickd evaluate-proposals --dataset pets_test@1of4 \\
      --methods edge_boxes selective_search sliding

  Existing proposals, and a method with other parameters:
  mlickd evaluate-proposals --dataset pets_test --proposals edge_proposals mcg_proposals \\
      --methods selective_search:mode=quality,longer_side=500

Boxes marked as crowd or difficult are ignored. One proposal may find several objects. Average recall is the mean
recall at IoU 0.5, 0.55, ..., 0.95. Methods run in one thread. Seconds are processor time per image, without the time to
read the image.
"""


def main() -> None:
    """Measure and print recall."""
    parser = command_parser(__doc__, EPILOG, log_level="INFO")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="a dataset with boxes")
    parser.add_argument("--proposals", nargs="+", type=Path, default=[], metavar="FOLDER", help="proposal stores")
    methods_help = "methods to run, as NAME or NAME:PARAMETER=VALUE,..."
    parser.add_argument("--methods", nargs="+", default=[], metavar="METHOD", help=methods_help)
    counts, counts_help = [10, 100, 500, 2000], "numbers of proposals per image (default: 10 100 500 2000)"
    parser.add_argument("--counts", nargs="+", type=positive_int, default=counts, metavar="N", help=counts_help)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers as JSON")
    arguments = parser.parse_args()
    if arguments.json:
        check_writable(arguments.json)
    sources = parse_sources(arguments.proposals, arguments.methods)
    records = dataset_records(arguments.dataset)
    cv2.setNumThreads(1)
    recalls = {name: evaluate_source(records, name, source, arguments.counts) for name, source in sources.items()}
    first = next(iter(recalls.values()))
    print(f"{arguments.dataset}: {first.overlaps.shape[1]} objects in {first.num_images} images\n")
    print(recall_table(recalls))
    if arguments.json:
        results = {name: recall.summary() for name, recall in recalls.items()}
        write_json(arguments.json, {"dataset": arguments.dataset, "results": results})
