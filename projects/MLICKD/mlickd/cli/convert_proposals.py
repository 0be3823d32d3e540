"""Convert region proposals from the files of other projects to a proposal store."""

from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.data import class_names, dataset_records, proposals_path
from mlickd.data.parts import whole_name
from mlickd.data.proposals import file_formats
from mlickd.data.proposals.importing import import_proposals
from mlickd.files import require_file

EPILOG = """\
formats:
  detectron2  pickle with ids, boxes and objectness_logits, as arrays and plain containers
  voc_mat     boxes and images, and in files of WSDDN also boxScores: EdgeBoxesVOC2007trainval.mat of WSDDN, or
              voc_2007_trainval.mat of Fast R-CNN, OICR and PCL
  mcg         folder with a .mat of boxes and scores for each image
  release     text list of the authors' release: path, labels, then x0 y0 x1 y1 score for each proposal

example:
  mlickd convert-proposals --format voc_mat --input EdgeBoxesVOC2007test.mat \\
      --dataset voc_2007_test_multilabel

To use imported proposals, set DATASETS.PROPOSALS.METHOD <format>.
"""

_READERS = {
    "detectron2": file_formats.read_detectron2_pickle,
    "voc_mat": file_formats.read_voc_mat,
    "mcg": file_formats.read_mcg_folder,
}


def main() -> None:
    """Convert proposals."""
    parser = command_parser(__doc__, EPILOG, log_level="INFO")
    parser.add_argument("--format", required=True, choices=[*_READERS, "release"], help="form of --input")
    parser.add_argument("--input", type=Path, required=True, metavar="PATH", help="file; folder for mcg")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="dataset with the images")
    output_help = "proposal store to write (default: $DETECTRON2_DATASETS/proposals/<dataset>_<format>)"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=output_help)
    parser.add_argument(
        "--side",
        type=float,
        metavar="PIXELS",
        help="side of the square to which images were warped before their boxes were computed; 0: not warped "
        f"(default: {file_formats.RELEASE_SIDE} for the format release, 0 for all others)",
    )
    arguments = parser.parse_args()
    if arguments.format != "mcg":
        require_file(str(arguments.input), "--input", "give the file with the proposals")
    side = arguments.side
    if side is None:
        side = file_formats.RELEASE_SIDE if arguments.format == "release" else 0
    # Parts of a dataset share the proposals of the whole dataset.
    records = dataset_records(whole_name(arguments.dataset))
    if arguments.format == "release":
        found = file_formats.read_release_list(arguments.input, len(class_names(arguments.dataset)))
    else:
        found = _READERS[arguments.format](arguments.input)
    path = arguments.output or proposals_path(arguments.dataset, arguments.format)
    parameters = {"imported": arguments.input.name, "side": side}
    store = import_proposals(found, records, path, str(arguments.input), arguments.format, parameters, side or None)
    store.check(records)
    print(f"{path}: {len(store)} images, {store.num_boxes} proposals")
