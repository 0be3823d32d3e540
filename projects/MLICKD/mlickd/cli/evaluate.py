"""Compute the metrics of runs under all common conventions, with confidence intervals."""

from mlickd.cli.command_line import command_parser
from mlickd.evaluation.ranking import AVERAGE_PRECISION_RULES
from mlickd.files import strict_json, write_json
from mlickd.studies.score_conventions import compare_scores, report_as_text

EPILOG = """\
examples:
  mlickd evaluate output/scenes/baseline output/scenes/distilled/prediction --bootstrap 1000

  Scores of any other model. The file is written by numpy.savez, with the arrays image_ids (N,), scores (N, C) from 0 to
  1, and targets (N, C) with 1, 0 or -1 (ignore):
  mlickd evaluate my_scores.npz --topk 5 --json report.json

The command does not run models. It reads the scores that an evaluation (`mlickd train`) wrote to
inference/DATASET/image_scores.npz. A run with a threshold for each class (`mlickd tune-thresholds`) also gets the
metrics at these thresholds.
"""


def main() -> None:
    """Print or write the metrics of all runs."""
    parser = command_parser(__doc__, EPILOG)
    runs_help = "folder of an evaluated run (its OUTPUT_DIR), or a file of scores"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=runs_help)
    parser.add_argument("--dataset", metavar="NAME", help="dataset of the scores, if a run has scores on several")
    threshold_help = "predict a class at this score or above (default: 0.5)"
    parser.add_argument("--threshold", type=float, default=0.5, metavar="T", help=threshold_help)
    parser.add_argument("--topk", type=int, default=3, metavar="K", help="K of the top-k metrics (default: 3)")
    bootstrap_help = "95%% intervals from B resamples of the images"
    parser.add_argument("--bootstrap", type=int, default=0, metavar="B", help=bootstrap_help)
    ap_help = f"rule of average precision for the intervals of mAP: {', '.join(AVERAGE_PRECISION_RULES)}"
    parser.add_argument("--ap", default="ranking", metavar="RULE", help=ap_help)
    parser.add_argument("--json", metavar="FILE", help="write all numbers as JSON; -: print them instead of the tables")
    args = parser.parse_args()
    report = compare_scores(
        args.runs, dataset=args.dataset, threshold=args.threshold, topk=args.topk, ap=args.ap, resamples=args.bootstrap
    )
    if args.json == "-":
        print(strict_json(report))
        return
    print(report_as_text(report), flush=True)
    if args.json:
        write_json(args.json, report)
