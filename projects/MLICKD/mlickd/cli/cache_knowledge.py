"""Run the teacher once on every training image and keep what it says, so that distillation runs without it."""

from __future__ import annotations

import argparse
import logging

from mlickd.cli.command_line import command_parser, parse_shard
from mlickd.distillation import KnowledgeRequest
from mlickd.engine.caching import check_cache, make_cache, prepare_caching
from mlickd.errors import InputError, run_tool

EPILOG = """\
example:
  python tools/cache_knowledge.py --config-file configs/kd_vgg16.yaml KD.CACHE output/knowledge
  python tools/train_net.py --config-file configs/kd_vgg16.yaml --kd-stage feature KD.CACHE output/knowledge
  python tools/train_net.py --config-file configs/kd_vgg16.yaml --kd-stage prediction KD.CACHE output/knowledge

  On three machines, each with the photos, their proposals and the teacher:
  python tools/cache_knowledge.py --config-file configs/kd_vgg16.yaml --shard 1/3 KD.CACHE output/knowledge
  (2/3 and 3/3 on the others); training wants the three shard folders in one place.

  On the four GPUs of one machine:
  torchrun --standalone --nproc_per_node 4 tools/cache_knowledge.py --config-file configs/kd_vgg16.yaml \\
      KD.CACHE output/knowledge

  One cache for several methods that share a teacher and the rule of R':
  python tools/cache_knowledge.py --config-file configs/scenes/kd.yaml --also-for configs/scenes/methods/fitnets.yaml \\
      --no-mirrored KD.CACHE output/knowledge

KEY VALUE pairs are those that training gets, too: a cache names what it was made from and is refused where that
differs. A run that was stopped goes on where it was; the files are the same, byte by byte.
"""


def parse_arguments() -> argparse.Namespace:
    """The options that the command was called with."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument("--config-file", default="", metavar="FILE", help="of the distillation")
    parser.add_argument(
        "--also-for",
        action="append",
        default=[],
        metavar="FILE",
        help="keep what this method asks of the teacher, too; may be given several times",
    )
    parser.add_argument("--shard", metavar="I/N", help="do part I of N alone")
    parser.add_argument(
        "--no-mirrored",
        action="store_true",
        help="do not run the teacher on the mirrored images, too, which it is where INPUT.RANDOM_FLIP is horizontal: "
        "half the time and room; mirrored views then take flipped features",
    )
    parser.add_argument(
        "--no-features",
        action="store_true",
        help="image scores alone: far smaller, and all that SoftLabelDistiller needs",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=4,
        metavar="N",
        help="images that the teacher sees at once (default: 4); the same when a run that was stopped goes on",
    )
    parser.add_argument("--check", action="store_true", help="only see whether the cache is whole and fits")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="of the configuration")
    return parser.parse_args()


def main() -> None:
    """Make or check the cache.

    Raises:
        InputError: an option or what it names is wrong.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = parse_arguments()
    if arguments.batch_size < 1:
        raise InputError(f"--batch-size: {arguments.batch_size} is below 1; give 1 or more")
    shard = parse_shard(arguments.shard)
    if arguments.no_features and arguments.also_for:
        raise InputError(
            "--no-features: keeps image scores alone, which is not what --also-for asks for; give one of them"
        )
    cfg, request = prepare_caching(arguments.config_file, arguments.opts, arguments.also_for)
    if arguments.no_features:
        request = KnowledgeRequest()
    if arguments.check:
        check_cache(cfg, request)
        return
    make_cache(
        cfg,
        request,
        shard=shard,
        mirrored=not arguments.no_mirrored,
        batch_size=arguments.batch_size,
    )


if __name__ == "__main__":  # so that a pipeline can start it where there is no tools/
    run_tool(main)
