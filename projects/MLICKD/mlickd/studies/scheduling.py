"""Several steps at once, each as soon as those before it have ended; one that fails does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from mlickd.errors import InputError

from .steps import Step, StepRunner, stopped_by_signals

__all__ = ["run_steps"]

logger = logging.getLogger(__name__)


def run_steps(steps: Sequence[Step], runner: StepRunner, jobs: int = 1) -> dict[str, str]:
    """Run steps, those that come first in the sequence first where several could be run.

    Args:
        steps: each with all that it is ``after``.
        runner: of the commands.
        jobs: commands that run at once, at most.

    Returns:
        Why steps have failed, by their key; of those that could not be run, for one before them has failed, too.

    Raises:
        ValueError: a step is after one that is not among them.
        KeyboardInterrupt: as it came, or for a signal to end; all commands have been ended.
    """
    waiting, running, ended = list(steps), {}, set()
    failures: dict[str, str] = {}
    if not {before.key for step in steps for before in step.after} <= {step.key for step in steps}:
        raise ValueError("a step is after one that is not among them")
    with stopped_by_signals(), ThreadPoolExecutor(jobs) as pool:
        try:
            while waiting or running:
                for step in list(waiting):
                    broken = next((before for before in step.after if before.key in failures), None)
                    if broken is not None:
                        failures[step.key] = f"{step.title} was not run: {failures[broken.key]}"
                        logger.info("%s: not run, for %s has failed", step.label, broken.label)
                        waiting.remove(step)
                    elif len(running) < jobs and all(before.key in ended for before in step.after):
                        running[pool.submit(runner.run, step)] = step
                        waiting.remove(step)
                _collect(running, ended, failures)
        except BaseException:
            runner.stop()
            raise
    return failures


def _collect(running: dict[Future, Step], ended: set[str], failures: dict[str, str]) -> None:
    """Wait for one step, and say how it ended."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        step = running.pop(future)
        try:
            future.result()
            ended.add(step.key)
        except InputError as error:
            failures[step.key] = str(error)
            logger.info("%s: FAILED, %s", step.label, error)
