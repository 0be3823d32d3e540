"""A process that the system ends."""

from __future__ import annotations

import os
import signal


def killed(*_: object) -> None:
    """What happens to a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)
