from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlickd.data.proposals.files import read_release_list
from mlickd.errors import InputError


def test_lines(tmp_path: Path) -> None:
    text = "\ufefftrain/1.jpg 0 1 1 0 0 672 336 0.75 1.5 2 3 4 1e-3\r\n\n2.jpg 0 0 0\n"
    (tmp_path / "list.txt").write_text(text, encoding="utf-8", newline="")
    (name, boxes, scores), (other, none, _) = read_release_list(tmp_path / "list.txt", 3)
    assert (name, other) == ("train/1.jpg", "2.jpg")
    np.testing.assert_array_equal(boxes, [[0, 0, 672, 336], [1.5, 2, 3, 4]])
    np.testing.assert_array_equal(scores, [0.75, 1e-3])
    assert none.shape == (0, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.jpg 0 1\n", "line 1: not a path without blanks, 3 labels"),
        (b"a.jpg 0 1 0\na.jpg 0 1 2 1 2 3 4 5\n", "line 2: not a path"),
        (b"a.jpg 0 1 0 1 2 3 4\n", "line 1: not a path"),
        (b"a.jpg 0 1 0 1 2 3 4 x\n", "line 1: .*give each proposal as x0 y0 x1 y1 score"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_bad_lines(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_release_list(tmp_path / "list.txt", 3))
    with pytest.raises(InputError, match="none.txt: cannot be read"):
        list(read_release_list(tmp_path / "none.txt", 3))
