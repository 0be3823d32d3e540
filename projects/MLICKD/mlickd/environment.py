"""Machine, commit, folders and memory of this process. The import of this module does not import PyTorch."""

import ctypes
import os
import platform
import re
import subprocess
from contextlib import suppress
from pathlib import Path

# Constants of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def dataset_root() -> Path:
    """Return the folder of all datasets: $DETECTRON2_DATASETS, by default `datasets`."""
    return Path(os.path.expanduser(os.environ.get("DETECTRON2_DATASETS") or "datasets")).absolute()


def in_torchrun() -> bool:
    """Return whether torchrun has started this process."""
    return {"LOCAL_RANK", "LOCAL_WORLD_SIZE", "RANK", "WORLD_SIZE"} <= os.environ.keys()


def find_commit(file: Path = Path(__file__)) -> str | None:
    """Return the commit of the git checkout that tracks a file; None without one. Changed files add ``-dirty``."""
    git = ("git", "-C", str(file.parent))
    try:
        # An installed package may be in a folder of an unrelated checkout, which does not track the package.
        subprocess.run([*git, "ls-files", "--error-unmatch", file.name], capture_output=True, check=True)
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, check=True, text=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def machine_line() -> str:
    """Return processor, usable cores, memory, operating system and versions on one line.

    The processor includes the instruction set of PyTorch's kernels, because other kernels round differently.
    """
    import torch

    text = ""
    with suppress(OSError):  # only Linux has this file
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    processor = found[1].strip() if found else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{processor} ({torch.backends.cpu.get_cpu_capability()}), {cores} cores, {memory:.0f} GiB, "
        f"{platform.system()}, Python {platform.python_version()}, PyTorch {torch.__version__}"
    )


def keep_freed_memory() -> None:
    """Make this process keep the memory that it frees for its next tensors, if the C library is glibc.

    By default, glibc returns large blocks to the system immediately, and the system fills them with zeros for the next
    step. This takes a fifth to a third of the CPU time of a teacher's step or a student's predictions, and a tenth of
    that of proposals. The drawback: the process always occupies its peak memory, and the peak was up to 10% higher with
    images of several sizes.
    """
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
