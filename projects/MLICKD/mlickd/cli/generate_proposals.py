"""Generate the region proposals that the teacher scores. Run this once for each dataset."""

import time
from pathlib import Path

from mlickd.cli.command_line import add_shard_argument, command_parser, exit_if_unreadable, positive_int
from mlickd.data import dataset_records, proposals_path
from mlickd.data.parts import whole_name
from mlickd.data.proposals.dataset_proposals import generate_proposals
from mlickd.data.proposals.image_proposals import parameter_value
from mlickd.data.proposals.proposal_methods import PROPOSAL_METHODS
from mlickd.data.user_photos import photo_records
from mlickd.errors import InputError

EPILOG = """\
example:
  DETECTRON2_DATASETS=~/datasets mlickd generate-proposals --dataset pets_train pets_test \\
      --method edge_boxes

  Your own photos, from a folder:
  mlickd generate-proposals --images ~/photos --output photo_proposals

To continue after an interruption, repeat the command. With three machines, give --shard 1/3 on the first, 2/3 on the
second and 3/3 on the third. Write to a shared folder, or copy all files into one folder. Machines, processes and
interruptions do not change the proposals.
"""


def main() -> None:
    """Generate proposals, or a part of them."""
    parser = command_parser(__doc__, EPILOG, log_level="INFO")
    methods = ", ".join(sorted(name for name, _ in PROPOSAL_METHODS))
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--dataset", nargs="+", metavar="NAME", help="registered or folder datasets")
    images.add_argument("--images", type=Path, metavar="FOLDER", help="folder of photos")
    parser.add_argument("--method", default="edge_boxes", help=f"{methods} (default: %(default)s)")
    output_help = "folder for one dataset or for --images (default: $DETECTRON2_DATASETS/proposals/<dataset>_<method>)"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=output_help)
    workers_help = "processes (default: one per core; under torchrun, the ranks of a machine share its cores)"
    parser.add_argument("--workers", type=positive_int, metavar="N", help=workers_help)
    setting = {"nargs": 2, "action": "append", "default": [], "metavar": ("PARAMETER", "VALUE")}
    set_help = (
        "parameter of the method, such as `--set max_proposals 2000` (default: 500 per image). All methods also have "
        "longer_side and min_side, selective_search has mode and seed, sliding has overlap and smallest. A wrong name "
        "prints all parameters of the method"
    )
    parser.add_argument("--set", **setting, help=set_help)
    add_shard_argument(parser, "generate only part I of N")
    arguments = parser.parse_args()
    if len(arguments.dataset or [""]) > 1 and arguments.output or arguments.images and not arguments.output:
        raise InputError("--output: required for --images, optional for one dataset, not possible for several datasets")
    part = arguments.shard
    parameters = {name: parameter_value(text) for name, text in arguments.set}
    failures: list[str] = []
    # Parts of a dataset share the proposals of the whole dataset.
    for name in dict.fromkeys(map(whole_name, arguments.dataset)) if arguments.dataset else [None]:
        records = dataset_records(name) if name else photo_records([arguments.images], failures)
        start = time.perf_counter()
        path = arguments.output or proposals_path(name, arguments.method)
        store = generate_proposals(records, arguments.method, parameters, path, arguments.workers, part)
        if store is None:
            print(f"{path}: part {part[0]} of {part[1]} is done, other parts are missing", flush=True)
            continue
        store.check(records)
        count, seconds = store.num_boxes / max(len(store), 1), time.perf_counter() - start
        print(f"{path}: {len(store)} images, {count:.1f} proposals per image, {seconds:.1f} s", flush=True)
    exit_if_unreadable(failures, len(records) + len(failures))
