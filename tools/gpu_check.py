#!/usr/bin/env python
"""Check training on a GPU: losses, speed, memory, and a resumed run.

The teacher and both stages of distillation train with VGG16 at the sizes of the paper, in float32, bfloat16 and
float16, with a live teacher and with the knowledge cache. Weights are random, and photos and proposals are drawn. The
first step of each run is compared with the CPU. If a run fails, the others still run, and the exit status is 1.
"""

import sys
from pathlib import Path

from mlickd.errors import run_tool


def main() -> None:
    """Run the check, which is one of the benchmarks of the repository."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "projects" / "MLICKD"))
    from benchmarks.gpu_check import main as check

    check(__doc__)


if __name__ == "__main__":
    run_tool(main)
