"""Warnings of libraries that tell who runs a command of this project nothing that it does not say itself."""

from __future__ import annotations

import warnings

__all__ = ["silence_known_warnings"]


def silence_known_warnings() -> None:
    """For a process that runs a command; a program that imports this project keeps what it has set."""
    # Pillow's, of more than half of the pixels that are read. What has more than all of them is an error here. Told by
    # its text, for its class would have to be imported, which takes time.
    warnings.filterwarnings("ignore", r"Image size \(\d+ pixels\) exceeds limit of \d+ pixels")
