"""Write the list of images and labels of a dataset with a digest, or compare the dataset with such a list."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.data import class_names, dataset_records
from mlickd.data.manifest import first_difference, manifest_lines, read_manifest, write_manifest

EPILOG = """\
example:
  python tools/dataset_manifest.py nus_wide_test_multilabel --output nus_wide_test.manifest
  python tools/dataset_manifest.py nus_wide_test_multilabel --check nus_wide_test.manifest

The digest depends on the image ids, the labels and the class names, not on where the images are. --check prints the
first difference, if there is one, and exits with status 1.
"""


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument("dataset", metavar="NAME", help="dataset")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--output", type=Path, metavar="FILE", help="file to write (default: NAME.manifest)")
    action.add_argument("--check", type=Path, metavar="FILE", help="manifest to compare with")
    return parser.parse_args()


def main() -> None:
    """Write the manifest of a dataset, or compare the dataset with one."""
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    theirs = read_manifest(args.check) if args.check else None
    ours = manifest_lines(dataset_records(args.dataset), class_names(args.dataset))
    if theirs is None:
        path = args.output or Path(f"{args.dataset}.manifest")
        print(f"{path}: {len(ours) - 1} images, sha256 {write_manifest(ours, args.dataset, path)}")
    elif difference := first_difference(ours, theirs):
        print(f"{args.dataset} has {len(ours) - 1} images, {args.check} {len(theirs) - 1}; {difference}")
        sys.exit(1)
    else:
        print(f"{args.dataset} has the images and labels of {args.check}: {len(ours) - 1} images")
