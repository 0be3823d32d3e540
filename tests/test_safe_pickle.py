"""Pickles of arrays and plain containers are read; other pickles are refused, and their code does not run."""

import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from detectron2.structures import BoxMode

from mlickd.errors import InputError
from mlickd.safe_pickle import load_plain_pickle


def written(folder: Path, content: object, protocol: int = 4) -> Path:
    (folder / "p.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    return folder / "p.pkl"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_are_read(protocol: int, tmp_path: Path) -> None:
    for kind in ("?", "i1", "<u2", ">i4", "<i8", "<f2", ">f4", "<f8", "S3", "<U2", ">U2"):
        array = np.array([[0, 1, 0], [1, 1, 0]]).astype(kind)
        content = [array, np.asfortranarray(array), array[:, ::2], array[:0], array[0, 1]]
        for found, expected in zip(load_plain_pickle(written(tmp_path, content, protocol)), content, strict=True):
            np.testing.assert_array_equal(found, expected)
            if isinstance(expected, np.ndarray) and expected.ndim:
                assert found.dtype == expected.dtype.newbyteorder("=") and found.flags.writeable
    nested = collections.OrderedDict(a=(1, 2.5, None, True, "ü"), b={1, 2}, c=b"\x00\xff")
    content = [np.array(["a", "ü"], dtype=object), nested, BoxMode.XYWH_ABS, ring := [np.zeros(2)]]
    ring.append({"array": ring[0], "ring": ring})
    names, found, mode, ring = load_plain_pickle(written(tmp_path, content, protocol))
    assert names.tolist() == ["a", "ü"] and found == nested and mode == 1 and type(mode) is int
    assert ring[0] is ring[1]["array"] and ring[1]["ring"] is ring


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_arrays_of_numpy_1_numpy_2_and_python_2_are_read(module: str, tmp_path: Path) -> None:
    # Python 2 writes the content as a str in protocol 2.
    start = f"\x80\x02c{module}.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R".encode("latin1")
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    data = np.array([1.5, -2], "<f4").tobytes()
    state = b"(K\x01K\x02\x85" + dtype + b"\x89U" + bytes([len(data)]) + data + b"tb"
    (tmp_path / "p.pkl").write_bytes(start + state + b".")
    assert load_plain_pickle(tmp_path / "p.pkl").tolist() == [1.5, -2]


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Built:
    """An array or dtype with a forged state."""

    def __init__(self, like, state):
        self.like, self.state = like, state

    def __reduce__(self):
        return *self.like.__reduce__()[:2], self.state


ARRAY, OBJECT = np.zeros(1), np.dtype(object)
# A dtype of objects without the flag for objects.
SILENT = Built(np.dtype("V8"), (3, "|", None, ("f",), {"f": (OBJECT, 0)}, 8, 1, 0))
POINTERS = {
    "object buffer": Hostile(np.ndarray, (1,), "O", bytearray(8)),
    "object bytes": Built(ARRAY, (1, (1,), OBJECT, False, b"\x01" * 8)),
    "object from a buffer": Hostile(np.zeros(1).__reduce_ex__(5)[0], b"\x01" * 8, OBJECT, (1,), "C"),
    "object number": Hostile(np.float64(0).__reduce__()[0], OBJECT, b"\x01" * 8),
    "too few objects": Built(ARRAY, (1, (3,), OBJECT, False, ["a"])),
    "silent field": Built(ARRAY, (1, (1,), SILENT, False, b"\x01" * 8)),
    "field": Built(ARRAY, (1, (1,), np.dtype([("f", "<f8")]), False, b"\x01" * 8)),
    "subarray": Built(ARRAY, (1, (1,), Built(np.dtype("f8"), (3, "<", (OBJECT, (1,)), None, None, -1, -1, 0)), 0, b"")),
    "cut short": Built(ARRAY, (1, (4,), np.dtype("f8"), False, b"\x01" * 8)),
    "huge": Built(ARRAY, (1, (1 << 40,), np.dtype("f8"), False, b"")),
    "negative": Built(ARRAY, (1, (-1, -1), np.dtype("f8"), False, b"\x01" * 8)),
    "no buffer": Hostile(np.ndarray, (1 << 40,), "<f8"),
    "huge bytearray": Hostile(bytearray, 1 << 40),
    "huge text": Built(ARRAY, (1, (1,), Hostile(np.dtype, "U999999999"), False, b"")),
}


@pytest.mark.parametrize("attack", list(POINTERS))
def test_arrays_with_forged_addresses_or_sizes_are_refused(attack: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="p.pkl"):
        load_plain_pickle(written(tmp_path, {"boxes": [POINTERS[attack]]}))


def attacks(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}"
    by_name = b"cbuiltins\ngetattr\n(c__main__\n__dict__\nX\x05\x00\x00\x00clearttR."
    return {
        "system": pickle.dumps(Hostile(os.system, command)),
        "eval": pickle.dumps(Hostile(eval, f"open({str(marker)!r}, 'w')")),
        "in an array": pickle.dumps(np.array([Hostile(os.system, command)], dtype=object)),
        "numpy": pickle.dumps(Hostile(np.load, str(marker), None, True)),
        "codec": pickle.dumps(Hostile(__import__("_codecs").encode, "text", "rot13")),
        "getattr": by_name,
        "dotted": b"cnumpy\nndarray.__class__.__subclasses__\n(tR.",
        "instance": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "persistent": b"Pname\n.",
        "changed function": b"cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb.",
        "array filled twice": pickle.dumps(ARRAY, 2)[:-1] + pickle.dumps(ARRAY.__reduce__()[2], 2)[2:-1] + b"b.",
        "truncated": pickle.dumps([np.zeros(100)])[:-20],
        "empty": b"",
        "text": b"no pickle at all",
    }


@pytest.mark.parametrize("attack", list(attacks(Path("x"))))
def test_other_pickles_are_refused_and_do_not_run(attack: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "it_ran", tmp_path / "p.pkl"
    path.write_bytes(attacks(marker)[attack])
    with pytest.raises(InputError, match="p.pkl") as error:
        load_plain_pickle(path)
    assert "\n" not in str(error.value) and not marker.exists()
    with pytest.raises(InputError, match="none.pkl"):
        load_plain_pickle(tmp_path / "none.pkl")
