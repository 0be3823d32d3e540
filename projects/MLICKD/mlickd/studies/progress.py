"""A command whose output goes to a log while a bar follows it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

__all__ = ["write_log", "write_log_with_bar"]

# What commands print: colors of the configuration, Detectron2's CommonMetricPrinter and its evaluation, tqdm's bars.
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_MAX_ITERATION = re.compile(r"^  MAX_ITER: (\d+)")
_ITERATION = re.compile(r"\biter: (\d+)\b.*?total_loss: ([\d.naif+-]+)")
_COUNT = re.compile(r"(Inference done|^[\w.-]+: ).*?\b(\d+)/(\d+)\b")


def write_log(lines: Iterable[str], log: Path) -> None:
    """Write what a command prints, line by line as it comes."""
    with open(log, "w", buffering=1) as file:
        file.writelines(lines)


def write_log_with_bar(lines: Iterable[str], log: Path, name: str) -> None:
    """The same, with a bar of that name which follows the command's iterations and those of its own bars."""
    bar = tqdm(desc=f"  {name}", dynamic_ncols=True, bar_format="{desc}: {n_fmt}/{total_fmt} [{elapsed}{postfix}]")
    ended = threading.Event()

    def keep_alive() -> None:
        while not ended.wait(2.0):
            bar.refresh()

    with bar:
        threading.Thread(target=keep_alive, daemon=True).start()
        try:
            write_log(_followed(lines, bar), log)
        finally:
            ended.set()


def _followed(lines: Iterable[str], bar: tqdm) -> Iterable[str]:
    iterations = 0
    for line in lines:
        yield line
        line = _COLOR.sub("", line)
        if match := _MAX_ITERATION.match(line):
            iterations = int(match[1])
        elif match := _ITERATION.search(line):
            bar.n, bar.total = int(match[1]) + 1, iterations
            bar.set_postfix_str(f"training, loss {match[2]}")
        elif match := _COUNT.search(line):
            bar.n, bar.total = int(match[2]), int(match[3])
            bar.set_postfix_str(match[1].strip(": "))
