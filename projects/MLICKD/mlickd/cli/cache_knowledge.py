"""Run the teacher once on every training image and store its outputs. Then distillation does not run the teacher."""

import argparse

from mlickd.cli.command_line import add_shard_argument, command_parser, positive_int
from mlickd.distillation.cache import check_cache, make_cache
from mlickd.engine.processes import select_local_gpu
from mlickd.engine.run_config import load_cache_config
from mlickd.environment import keep_freed_memory

EPILOG = """\
example:
  mlickd cache-knowledge --config-file configs/kd_vgg16.yaml KD.CACHE output/knowledge
  mlickd train --config-file configs/kd_vgg16.yaml --kd-stage feature KD.CACHE output/knowledge
  mlickd train --config-file configs/kd_vgg16.yaml --kd-stage prediction KD.CACHE output/knowledge

  On the four GPUs of a machine:
  torchrun --standalone --nproc_per_node 4 -m mlickd cache-knowledge --config-file configs/kd_vgg16.yaml \\
      KD.CACHE output/knowledge

  One cache for several methods that have the same teacher and the same KD.REGIONS:
  mlickd cache-knowledge --config-file configs/scenes/kd.yaml \\
      --also-for configs/scenes/kd.yaml,configs/methods/fitnets.yaml --no-mirrored KD.CACHE output/knowledge

Give the same KEY VALUE pairs as for training: a cache stores its settings, and training refuses other settings. To
continue after an interruption, give the same command again. With three machines, give --shard 1/3 on the first, 2/3 on
the second and 3/3 on the third, and copy all files into one folder.
"""


def main() -> None:
    """Make or check the cache."""
    parser = command_parser(__doc__, EPILOG, log_level="INFO")
    parser.add_argument("--config-file", default="", metavar="FILE[,FILE]", help="configuration of the distillation")
    also_help = "also store the knowledge that this method needs; may be repeated"
    parser.add_argument("--also-for", action="append", default=[], metavar="FILE[,FILE]", help=also_help)
    add_shard_argument(parser, "only do part I of N")
    parser.add_argument(
        "--no-mirrored",
        action="store_true",
        help="do not run the teacher on mirrored images: half the time and disk space, but mirrored views then use "
        "flipped features (by default, the teacher runs on mirrored images if INPUT.RANDOM_FLIP is horizontal)",
    )
    batch_help = "number of images in a batch of the teacher (default: 4); give the same number to continue"
    parser.add_argument("--batch-size", type=positive_int, default=4, metavar="N", help=batch_help)
    check_help = "only check that the cache is complete, intact and made for this configuration"
    parser.add_argument("--check", action="store_true", help=check_help)
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="configuration options")
    arguments = parser.parse_args()
    cfg, request = load_cache_config(arguments.config_file, arguments.opts, arguments.also_for)
    if arguments.check:
        check_cache(cfg, request)
        return
    select_local_gpu(cfg.MODEL.DEVICE)
    if cfg.MODEL.DEVICE == "cpu":
        keep_freed_memory()
    options = {"mirrored": not arguments.no_mirrored, "batch_size": arguments.batch_size}
    make_cache(cfg, request, part=arguments.shard, **options)
