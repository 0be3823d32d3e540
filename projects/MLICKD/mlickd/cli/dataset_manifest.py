"""Write the manifest of a dataset (its images and labels, with a digest), or compare a dataset with a manifest."""

import sys
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.data import class_names, dataset_records
from mlickd.data.manifest import first_difference, manifest_lines, read_manifest, write_manifest

EPILOG = """\
example:
  mlickd dataset-manifest nus_wide_test_multilabel --output nus_wide_test.manifest
  mlickd dataset-manifest nus_wide_test_multilabel --check nus_wide_test.manifest

The digest depends on the image ids, the labels and the class names. It does not depend on the folder of the images. If
--check finds a difference, the command prints the first one and exits with status 1.
"""


def main() -> None:
    """Write or check a manifest."""
    parser = command_parser(__doc__, EPILOG, log_level="INFO")
    parser.add_argument("dataset", metavar="NAME", help="dataset")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--output", type=Path, metavar="FILE", help="file to write (default: NAME.manifest)")
    action.add_argument("--check", type=Path, metavar="FILE", help="manifest to compare with")
    args = parser.parse_args()
    expected = read_manifest(args.check) if args.check else None
    lines = manifest_lines(dataset_records(args.dataset), class_names(args.dataset))
    if expected is None:
        path = args.output or Path(f"{args.dataset}.manifest")
        print(f"{path}: {len(lines) - 1} images, sha256 {write_manifest(lines, args.dataset, path)}")
    elif difference := first_difference(lines, expected):
        print(f"{args.dataset} has {len(lines) - 1} images, {args.check} {len(expected) - 1}; {difference}")
        sys.exit(1)
    else:
        print(f"{args.dataset} has the images and labels of {args.check}: {len(lines) - 1} images")
