"""Write the list of images and labels of a dataset with a digest, or compare the dataset with such a list."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.data import class_names, dataset_records
from mlickd.data.manifest import first_difference, make_manifest, read_manifest, write_manifest

EXAMPLE = """
Example:

  python tools/dataset_manifest.py nus_wide_test_multilabel --output nus_wide_test.manifest
  python tools/dataset_manifest.py nus_wide_test_multilabel --check nus_wide_test.manifest

  The digest depends on the image ids, the labels and the class names, not on where the images lie. --check ends with
  status 1 and the first difference where there is one.
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EXAMPLE)
    parser.add_argument("dataset", metavar="NAME", help="dataset")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--output", type=Path, metavar="FILE", help="write it (default: NAME.manifest)")
    action.add_argument("--check", type=Path, metavar="FILE", help="compare with this one instead")
    return parser.parse_args()


def main() -> None:
    """Write the manifest of a dataset, or compare with one.

    Raises:
        InputError: an option or what it names is wrong.
    """
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    theirs = read_manifest(args.check) if args.check else None
    ours = make_manifest(args.dataset, dataset_records(args.dataset), class_names(args.dataset))
    if theirs is None:
        path = args.output or Path(f"{args.dataset}.manifest")
        write_manifest(ours, path)
        print(f"{path}: {len(ours.images)} images, sha256 {ours.digest()}")
        return
    difference = first_difference(ours, theirs)
    if difference is not None:
        print(f"{args.dataset} is not what {args.check} lists: {difference}")
        sys.exit(1)
    print(f"{args.dataset} is what {args.check} lists: {len(ours.images)} images, sha256 {ours.digest()}")
