"""Reading the text files of data sets, whichever program wrote them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mlickd.errors import InputError


def read_text(path: str | os.PathLike[str], remedy: str) -> str:
    """The text of a UTF-8 file, without a byte order mark, every line end as "\\n".

    Args:
        path: of the file.
        remedy: what to do where it is missing, for the message.

    Raises:
        InputError: the file is missing, cannot be read, or is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"{path}: file not found; {remedy}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def read_lines(path: str | os.PathLike[str], remedy: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without surrounding blanks) of the lines that are not blank; arguments as above."""
    for number, line in enumerate(read_text(path, remedy).split("\n"), start=1):
        if text := line.strip():
            yield number, text
