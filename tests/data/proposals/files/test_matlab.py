from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mlickd.data.proposals.files import read_mcg_folder, read_voc_mat
from mlickd.errors import InputError

savemat = pytest.importorskip("scipy.io").savemat

# Of MATLAB: (y0, x0, y1, x1), the first pixel is 1, both ends are inside.
ONE_PIXEL, WIDE = [1, 1, 1, 1], [3, 11, 4, 20]
# The same here: (x0, y0, x1, y1).
EXPECTED = [[0, 0, 1, 1], [10, 2, 20, 4]]


def cells(values: list) -> np.ndarray:
    """A 1 x N cell array."""
    array = np.empty((1, len(values)), dtype=object)
    array[0] = values
    return array


def assert_read(found: list, scores: list | None) -> None:
    (first, boxes, first_scores), (second, empty, _) = found
    assert (first, second) == ("000005", "2008_000001")
    np.testing.assert_array_equal(boxes, EXPECTED)
    assert empty.shape == (0, 4)
    assert first_scores is None if scores is None else first_scores.tolist() == scores


@pytest.mark.parametrize("dtype", [np.uint16, np.float64])
@pytest.mark.parametrize("scores", [None, [0.5, 0.25]])
def test_file_of_a_split(dtype: type, scores: list | None, tmp_path: Path) -> None:
    content = {
        "boxes": cells([np.array([ONE_PIXEL, WIDE], dtype=dtype), np.zeros((0, 4), dtype=dtype)]),
        "images": cells(["000005", "2008_000001"]),
    }
    if scores is not None:
        content["boxScores"] = cells([np.array([scores]).T, np.zeros((0, 1))])
    savemat(tmp_path / "p.mat", content)
    assert_read(list(read_voc_mat(tmp_path / "p.mat")), scores)


def test_file_of_version_7_3(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "p.mat", "w", userblock_size=512) as file:

        def text(name: str) -> object:
            data = file.create_dataset(f"#refs#/{name}", data=np.array([[ord(c)] for c in name], dtype=np.uint16))
            data.attrs["MATLAB_class"] = np.bytes_("char")
            return data.ref

        def array(name: str, value: np.ndarray) -> object:
            return file.create_dataset(f"#refs#/{name}", data=value.T).ref

        empty = file.create_dataset("#refs#/empty", data=np.array([0, 4], dtype=np.uint64))
        empty.attrs["MATLAB_empty"] = np.uint8(1)
        boxes = [array("boxes", np.array([ONE_PIXEL, WIDE], dtype=float)), empty.ref]
        scores = [array("scores", np.array([[0.5], [0.25]])), empty.ref]
        for name, cell in (
            ("boxes", boxes),
            ("images", [text("000005"), text("2008_000001")]),
            ("boxScores", scores),
        ):
            file.create_dataset(name, data=np.array(cell, dtype=h5py.ref_dtype).reshape(-1, 1), dtype=h5py.ref_dtype)
    with (tmp_path / "p.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    assert_read(list(read_voc_mat(tmp_path / "p.mat")), [0.5, 0.25])


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"version 7.3 \(HDF5\), for which h5py is needed: pip install"):
        list(read_voc_mat(tmp_path / "p.mat"))


def test_mcg_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    savemat(tmp_path / "sub" / "COCO_val2014_01.mat", {"boxes": np.array([ONE_PIXEL, WIDE]), "scores": [[2.5], [1]]})
    savemat(tmp_path / "b.mat", {"boxes": np.array([WIDE])})
    found = {name: (boxes, scores) for name, boxes, scores in read_mcg_folder(tmp_path)}
    assert found.keys() == {"COCO_val2014_01", "b"}
    np.testing.assert_array_equal(found["COCO_val2014_01"][0], EXPECTED)
    assert found["COCO_val2014_01"][1].tolist() == [2.5, 1] and found["b"][1] is None


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "p.mat"

    def refused(message: str, content: dict | bytes | None) -> None:
        if isinstance(content, dict):
            savemat(path, content)
        elif content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=message) as error:
            list(read_voc_mat(path))
        assert "\n" not in str(error.value)

    refused("p.mat: no such file", None)
    refused("p.mat: not a readable .mat file", b"nothing of MATLAB's" * 20)
    refused("has no cell array 'boxes'", {"images": cells(["a"])})
    refused("different lengths", {"boxes": cells([np.zeros((1, 4))]), "images": cells(["a", "b"])})
    refused(r"image a: boxes of shape \(1, 5\)", {"boxes": cells([np.ones((1, 5))]), "images": cells(["a"])})
    refused("image a: not an array of numbers", {"boxes": cells(["text"]), "images": cells(["a"])})
    savemat(path, {"boxes": np.array([WIDE])})
    data = path.read_bytes()
    refused("p.mat: not a readable .mat file", data[: len(data) - 10])
    with pytest.raises(InputError, match="no .mat file in this folder"):
        list(read_mcg_folder(tmp_path / "none"))
    savemat(path, {"bboxes": np.array([WIDE])})
    with pytest.raises(InputError, match="p.mat: has no array 'boxes'"):
        list(read_mcg_folder(tmp_path))
