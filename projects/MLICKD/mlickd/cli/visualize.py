"""Write plots, and a gallery of photos with the teacher's regions and the predictions of both students."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mlickd.cli.command_line import command_parser
from mlickd.visualization.runs import write_gallery_of_runs

EXAMPLE = """
Example:

  python tools/visualize.py --dataset scenes_test --teacher output/scenes/teacher \\
      --baseline output/scenes/baseline --distilled output/scenes/distilled/prediction --output output/gallery

  Any photos, whose regions are proposed on the fly:

  python tools/visualize.py --teacher output/scenes/teacher --photos ~/photos --output output/gallery

  Each folder is the OUTPUT_DIR of a finished run; leave out what you do not have. In output/gallery, to open in a
  browser: index.html, the gallery; and of a dataset plots.html, with training curves, average precision of each class,
  precision and recall, labels that occur together, and the teacher's regions. Each holds all that it shows.
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EXAMPLE)
    parser.add_argument("--dataset", metavar="NAME", help="dataset of the photos; with --photos, of the classes alone")
    parser.add_argument("--teacher", type=Path, metavar="FOLDER", help="run of the teacher")
    parser.add_argument("--baseline", type=Path, metavar="FOLDER", help="run of the baseline")
    parser.add_argument("--distilled", type=Path, metavar="FOLDER", help="run of the distilled student")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for the gallery")
    parser.add_argument("--num-images", type=int, default=24, metavar="N", help="photos drawn at random (default: 24)")
    parser.add_argument("--seed", type=int, default=0, help="of the random choice (default: 0)")
    parser.add_argument("--images", nargs="+", default=[], metavar="ID", help="these photos instead, by image id")
    parser.add_argument(
        "--photos",
        nargs="+",
        default=[],
        metavar="PATH",
        help="these photos, folders, patterns in quotes, or lists of photos instead",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="score from which a class is predicted, for all (default: those of tools/tune_thresholds.py, where they "
        "are in the folder of the student, else its TEST.THRESHOLD)",
    )
    parser.add_argument(
        "--activation-maps", action="store_true", help="show where in a photo the students find their classes"
    )
    parser.add_argument(
        "--figures", action="store_true", help="the paper's result figure of each photo, too, as figures/*.png"
    )
    return parser.parse_args()


def main() -> None:
    """Run the models, and write gallery and plots.

    Raises:
        InputError: an option or what it names is wrong.
    """
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    index = write_gallery_of_runs(
        args.dataset,
        args.output,
        teacher=args.teacher,
        baseline=args.baseline,
        distilled=args.distilled,
        num_images=args.num_images,
        seed=args.seed,
        image_ids=args.images,
        photos=args.photos,
        threshold=args.threshold,
        activation_maps=args.activation_maps,
        figures=args.figures,
    )
    print(f"Gallery: {index}")
    if not args.photos:
        print(f"Plots: {index.with_name('plots.html')}")
