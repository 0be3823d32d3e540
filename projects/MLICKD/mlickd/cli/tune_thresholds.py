"""Choose a threshold for each class on held-out images, and write them next to the checkpoint of a run."""

from tabulate import tabulate

from mlickd.cli.command_line import command_parser
from mlickd.runs import find_run
from mlickd.studies.threshold_tuning import tune_thresholds

EPILOG = """\
example, for the held-out photos of `mlickd quickstart --photos`:
  export DETECTRON2_DATASETS=$PWD/output/holiday/data
  mlickd tune-thresholds --run output/holiday --dataset photos_held_out

The commands `predict` and `export` then use the thresholds. Each class gets the threshold with the best F1. A class
without a positive image keeps TEST.THRESHOLD. The dataset must not share images with the first dataset of
DATASETS.TEST of the run. The held-out photos of `quickstart` and `compare` are suitable: `photos_held_out`, or a part
such as `pets_train@1of5`.
"""


def main() -> None:
    """Tune the thresholds, and write them to the run."""
    parser = command_parser(__doc__, EPILOG, log_level="INFO")
    parser.add_argument("--run", required=True, metavar="FOLDER", help="a run, or the output of quickstart or compare")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="held-out dataset")
    args = parser.parse_args()
    run = find_run(args.run)
    tuned = tune_thresholds(run, args.dataset)
    rows = zip(tuned.class_names, tuned.positives, tuned.thresholds, tuned.f1, strict=True)
    table = [[name, count, f"{t:.3f}", "" if f1 is None else f"{100 * f1:.1f}"] for name, count, t, f1 in rows]
    print(tabulate(table, headers=["class", "positives", "threshold", "F1, %"], disable_numparse=True))
    print(f"\nthresholds.json in {run}: tuned on {tuned.dataset} ({tuned.images} images)")
