"""Check the images, labels and proposals of a dataset, and find duplicates across splits."""

import sys
from pathlib import Path

from mlickd.cli.command_line import command_parser, positive_int
from mlickd.data.checking.split_checks import check_datasets, report_text
from mlickd.files import check_writable, write_json
from mlickd.visualization.label_charts import draw_labels

EPILOG = """\
example:
  mlickd check-dataset pets_train pets_test --json output/check/pets.json

Give all splits of a dataset together, to find duplicates of test images among the training images. A chart of the
labels of each split is written to output/check/<name>/labels.png.

Exit status: 0 without errors (but perhaps with warnings and notes), 1 with errors, 2 for wrong arguments.
"""


def main() -> None:
    """Check the datasets and print the report; exit with status 1 if there is an error."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument("names", nargs="+", metavar="NAME", help="splits of one registered or folder dataset")
    proposals_help = "methods whose proposals must exist (default: check all existing proposals)"
    parser.add_argument("--proposals", nargs="+", metavar="METHOD", help=proposals_help)
    output = Path("output/check")
    parser.add_argument("--output", type=Path, default=output, metavar="FOLDER", help="charts (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all counts and findings to this file")
    parser.add_argument("--workers", type=positive_int, metavar="N", help="decoding threads (default: one per core)")
    args = parser.parse_args()
    for path in filter(None, [args.json, *(args.output / name / "labels.png" for name in args.names)]):
        check_writable(path)
    report = check_datasets(args.names, args.proposals, args.workers)
    print(report_text(report), flush=True)
    if args.json:
        write_json(args.json, report.as_json())
    for name, labels in report.labels.items():
        draw_labels(name, labels, args.output / name / "labels.png")
    sys.exit(0 if report.ok else 1)
