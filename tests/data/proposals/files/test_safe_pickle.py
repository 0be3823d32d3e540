from __future__ import annotations

import collections
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
from detectron2.structures import BoxMode

from mlickd.data.proposals.files.safe_pickle import load_plain_pickle
from mlickd.errors import InputError


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers(protocol: int, tmp_path: Path) -> None:
    content = {
        "boxes": [np.arange(8, dtype=np.float32).reshape(2, 4), np.zeros((0, 4), "<i2")],
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "names": np.array(["a", "ü"], dtype=object),
        "nested": collections.OrderedDict(a=(1, 2.5, None, True, "ü"), b={1, 2}, c=b"\x00\xff"),
        "scalar": np.float32(1.5),
        "mode": BoxMode.XYWH_ABS,
    }
    path = tmp_path / "p.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = load_plain_pickle(path)
    for found, expected in zip(read["boxes"], content["boxes"], strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
    np.testing.assert_array_equal(read["fortran"], content["fortran"])
    assert read["names"].tolist() == ["a", "ü"]
    assert read["nested"] == content["nested"] and read["scalar"] == 1.5
    assert read["mode"] == 1 and type(read["mode"]) is int


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}"
    by_name = b"cbuiltins\ngetattr\n(c__main__\n__dict__\nX\x05\x00\x00\x00clearttR."
    return {
        "system": pickle.dumps(Hostile(os.system, command)),
        "popen": pickle.dumps(Hostile(subprocess.Popen, ["touch", str(marker)])),
        "eval": pickle.dumps(Hostile(eval, f"open({str(marker)!r}, 'w')")),
        "inside": pickle.dumps({"ids": [1], "boxes": [np.zeros((1, 4)), Hostile(os.system, command)]}),
        "in an array": pickle.dumps(np.array([Hostile(os.system, command)], dtype=object)),
        "numpy": pickle.dumps(Hostile(np.load, str(marker), None, True)),
        "codec": pickle.dumps(Hostile(__import__("_codecs").encode, "text", "rot13")),
        "getattr": by_name,
        "dotted": b"cnumpy\nndarray.__class__.__subclasses__\n(tR.",
        "instance": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "persistent": b"Pname\n.",
        "truncated": pickle.dumps([np.zeros(100)])[:-20],
        "empty": b"",
        "text": b"no pickle at all",
    }


@pytest.mark.parametrize("attack", list(attacks(Path("x"))))
def test_nothing_else_is_read_and_nothing_runs(attack: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "it_ran", tmp_path / "p.pkl"
    path.write_bytes(attacks(marker)[attack])
    with pytest.raises(InputError, match="p.pkl: not a pickle of arrays and plain containers") as error:
        load_plain_pickle(path)
    assert "\n" not in str(error.value)
    assert not marker.exists()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.pkl: cannot be opened"):
        load_plain_pickle(tmp_path / "none.pkl")
