"""What loading a dataset warns of, as findings."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from .. import records
from .findings import Finding

__all__ = ["collect_warnings"]


class _Collector(logging.Handler):
    """Messages by the text that they were formatted from."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages: dict[str, list[str]] = defaultdict(list)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != records.__name__:  # warns of classes without images, which `class_findings` finds
            self.messages[str(record.msg)].append(record.getMessage())


@contextmanager
def collect_warnings(name: str, findings: list[Finding]) -> Iterator[None]:
    """Append what this package warns of inside the block, rather than log it; warnings of one kind are one finding.

    A dataset is loaded once in a process, so it warns at the first time alone.

    Args:
        name: of the dataset that is loaded there.
        findings: to append to.
    """
    package = logging.getLogger("mlickd")
    collector, level, propagate = _Collector(), package.level, package.propagate
    package.addHandler(collector)
    package.setLevel(logging.WARNING)
    package.propagate = False
    try:
        yield
    finally:
        package.removeHandler(collector)
        package.setLevel(level)
        package.propagate = propagate
        for messages in collector.messages.values():
            first, *others = messages
            examples = messages if others else ()
            message = f"{len(messages)} warnings of one kind in loading it" if others else first
            findings.append(Finding("warning", name, message, examples))
