"""Reading the text files of datasets, whichever program wrote them."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator

from mlickd.errors import InputError


def read_text(path: str | os.PathLike[str], remedy: str) -> str:
    """The text of a UTF-8 file, without a byte order mark, every line end as "\\n".

    Args:
        path: of the file.
        remedy: what to do where it is missing, for the message.

    Raises:
        InputError: the file is missing, cannot be read, is not UTF-8, or holds a NUL.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except FileNotFoundError:
        raise InputError(f"{path}: file not found; {remedy}") from None
    except UnicodeDecodeError as error:
        found = "it is UTF-16" if _is_utf16(path) else f"{error.reason} at byte {error.start}"
        raise InputError(f"{path}: not UTF-8 text ({found}); save it as UTF-8") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not a file; {remedy}") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give the right to, or name another file"
        ) from error
    before, nul, _ = text.partition("\0")
    if nul:  # no text has one, and Python's csv module reads it or not, by version
        line = before.count("\n") + 1
        raise InputError(f"{path}: line {line}: a NUL character, which no text has; save it as UTF-8 text")
    return text


def _is_utf16(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as Excel's "Unicode text" and Windows PowerShell's ``>`` write it."""
    with open(path, "rb") as file:
        return file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_lines(path: str | os.PathLike[str], remedy: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without surrounding blanks) of the lines that are not blank; arguments as above."""
    for number, line in enumerate(read_text(path, remedy).split("\n"), start=1):
        if text := line.strip():
            yield number, text
