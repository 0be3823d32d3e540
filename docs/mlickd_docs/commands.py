"""The commands, as their `--help` explains them."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path
from unittest import mock

__all__ = ["command_help"]

# Characters in a line of the usage.
_COLUMNS = "100"


def command_help(script: Path) -> str:
    """What a script prints with `--help`.

    It is run in this process, so that PyTorch and Detectron2 are imported once for all of them.
    """
    printed = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [str(script), "--help"]),
        mock.patch.dict(os.environ, {"COLUMNS": _COLUMNS, "NO_COLOR": "1"}),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        runpy.run_path(str(script), run_name="__main__")
    return printed.getvalue()
