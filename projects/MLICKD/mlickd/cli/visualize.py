"""Write a gallery of photos with the teacher's regions and the predictions of both students, and plots of the runs."""

from pathlib import Path

from mlickd.cli.command_line import command_parser, exit_if_unreadable, positive_int
from mlickd.data.user_photos import photo_records
from mlickd.visualization.run_gallery import write_gallery_of_runs

EPILOG = """\
examples:
  mlickd visualize --dataset scenes_test --teacher output/scenes/teacher \\
      --baseline output/scenes/baseline --distilled output/scenes/distilled/prediction --output output/gallery

  Your own photos. The command generates their proposals:
  mlickd visualize --teacher output/scenes/teacher --photos ~/photos --output output/gallery

--teacher, --baseline and --distilled are optional; each is the OUTPUT_DIR of a finished run. For the output of
`quickstart` or `compare`, the command uses the chosen student. The gallery is index.html in --output. For a dataset,
plots.html shows training curves, average precision of each class, precision and recall, labels that occur together,
and the teacher's regions. Open the pages in a browser. Each page contains all its images.
"""


def main() -> None:
    """Run the models, and write the gallery and the plots."""
    parser = command_parser(__doc__, EPILOG, log_level="INFO")
    parser.add_argument("--dataset", dest="dataset_name", metavar="NAME", help="dataset of the images")
    parser.add_argument("--teacher", type=Path, metavar="FOLDER", help="run of the teacher")
    parser.add_argument("--baseline", type=Path, metavar="FOLDER", help="run of the baseline")
    parser.add_argument("--distilled", type=Path, metavar="FOLDER", help="run of the distilled student")
    parser.add_argument(
        "--output", dest="output_dir", type=Path, required=True, metavar="FOLDER", help="folder for the pages"
    )
    shown = parser.add_mutually_exclusive_group()
    number_help = "number of random images (default: 24)"
    shown.add_argument("--num-images", type=positive_int, default=24, metavar="N", help=number_help)
    shown.add_argument("--images", dest="image_ids", nargs="+", default=[], metavar="ID", help="ids (default: random)")
    photos_help = "photos, folders or patterns to show instead of images of the dataset"
    shown.add_argument("--photos", nargs="+", default=[], metavar="PATH", help=photos_help)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choice (default: 0)")
    threshold_help = "threshold of all classes (default: from `mlickd tune-thresholds`, else TEST.THRESHOLD of the run)"
    parser.add_argument("--threshold", type=float, metavar="T", help=threshold_help)
    parser.add_argument("--activation-maps", action="store_true", help="show the students' class activation maps")
    parser.add_argument("--figures", action="store_true", help="also write result figures as in the paper to figures/")
    options, failures = vars(parser.parse_args()), []
    if options["activation_maps"] and not (options["baseline"] or options["distilled"]):
        parser.error("--activation-maps requires --baseline or --distilled")
    photos = options["photos"] = photo_records(options["photos"], failures) if options["photos"] else []
    index = write_gallery_of_runs(**options)
    print(f"Gallery: {index}")
    if not photos:
        print(f"Plots: {index.with_name('plots.html')}")
    exit_if_unreadable(failures, len(photos) + len(failures))
