"""Seconds of several calls, measured in turn."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

from .comparison import Row

__all__ = ["interleaved"]


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    repetitions: int,
    *,
    warm_up: int = 1,
    title: str = "",
    scale: float = 1.0,
) -> list[Row]:
    """Time each call once a round, so that whatever the machine does meanwhile falls on all of them.

    Args:
        calls: by name, in the order in which a round makes them.
        repetitions: rounds that count.
        warm_up: rounds before them that do not.
        title: of the bar that shows the progress.
        scale: factor on the seconds.

    Returns:
        A row for each call with its seconds, times ``scale``, in every round.
    """
    values = {name: [] for name in calls}
    rounds = warm_up + repetitions
    gc.collect()
    gc.freeze()  # what was there before need not be looked at again after each call
    with tqdm(total=rounds * len(calls), desc=title, unit="call", leave=False) as progress:
        for number in range(rounds):
            for name, call in calls.items():
                progress.set_postfix_str(name)
                gc.collect()  # nobody pays for what another has left
                start = time.perf_counter()
                call()
                seconds = time.perf_counter() - start
                if number >= warm_up:
                    values[name].append(scale * seconds)
                progress.update()
    gc.unfreeze()
    return [Row(name, measured) for name, measured in values.items()]
