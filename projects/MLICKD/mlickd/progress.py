"""Progress of long work: a bar in a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterable, Iterator

from tqdm import tqdm


def progress(items: Iterable, name: str, unit: str, total: int | None = None) -> Iterator:
    """Yield items and show the progress on standard error; give the ``total`` number if ``items`` has no length.

    Outside of a terminal, as in a log file, write a line every ten percent if there are at least ten items.
    """
    bar = tqdm(items, desc=name, unit=unit, total=total, mininterval=1.0, disable=None)
    total = len(items) if total is None else total
    for count, item in enumerate(bar, 1):
        if bar.disable and total >= 10 and 10 * count // total > 10 * (count - 1) // total:
            plural = f"{unit}es" if unit.endswith("ch") else f"{unit}s"
            sys.stderr.write(f"{name}: {10 * (10 * count // total)}% of {total} {plural}\n")
        yield item
