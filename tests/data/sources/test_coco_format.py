"""Boxes in columns: those of a plain loop over the annotations, whatever their order in the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlickd.data.sources.coco_format import box_columns, read_coco
from mlickd.errors import InputError

SIZES = {3: (30, 40), 5: (20, 10), 8: (50, 50)}  # image id to height and width


def write(path: Path, annotations: list[dict]) -> Path:
    content = {
        "categories": [{"id": 9, "name": "cat"}, {"id": 4, "name": "dog"}],
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": h, "width": w} for i, (h, w) in SIZES.items()],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))
    return path


ANNOTATION = st.fixed_dictionaries(
    {
        "image_id": st.sampled_from(sorted(SIZES)),
        "category_id": st.sampled_from([4, 9]),
        "bbox": st.tuples(st.floats(-1, 5), st.floats(-1, 5), st.floats(0, 6), st.floats(0, 6)),
        "iscrowd": st.sampled_from([0, 1, None]),
    }
)


@given(st.lists(ANNOTATION, max_size=8), st.permutations([0, 1, -1]))
def test_columns_are_those_of_a_loop(tmp_path_factory, annotations, records):
    path = write(tmp_path_factory.mktemp("coco") / "boxes.json", annotations)
    file = read_coco(path)
    assert file.category_names == ["dog", "cat"]
    image_ids = [list(SIZES)[records.index(record)] for record in (0, 1)]
    sizes = np.array([SIZES[image_id] for image_id in image_ids])
    columns = box_columns(file, np.array(records), sizes, np.array([5, 7])[file.categories], allow_empty=True)
    for record, image_id in enumerate(image_ids):
        expected = []
        for annotation in annotations:
            x, y, width, height = annotation["bbox"]
            x0, y0 = max(x, 0), max(y, 0)
            x1, y1 = min(x + width, SIZES[image_id][1]), min(y + height, SIZES[image_id][0])
            if annotation["image_id"] == image_id and x0 < x1 and y0 < y1:
                label = {4: 5, 9: 7}[annotation["category_id"]]
                expected.append(([x0, y0, x1, y1], label, annotation["iscrowd"] or 0))
        found = columns.annotations(record)
        assert [(box["bbox"], box["category_id"], box["iscrowd"]) for box in found] == expected


def test_the_first_bad_box_is_named_with_its_own_problem(tmp_path):
    boxes = [[1, 1, 2, 2], [1, 1, 50, 5], [1, 1, -2, 2]]
    annotations = [{"id": i, "image_id": 3, "category_id": 4, "bbox": box} for i, box in enumerate(boxes)]
    file = read_coco(write(tmp_path / "boxes.json", annotations))
    records, sizes = np.array([0, -1, -1]), np.array([SIZES[3]])
    with pytest.raises(InputError, match=r"annotation 1 of image 3: 'bbox' \[1, 1, 50, 5\] leaves the image of 40x30 "):
        box_columns(file, records, sizes, file.categories, allow_empty=True)


def test_a_number_that_is_none_does_no_harm_where_nobody_reads_it(tmp_path):
    annotation = {"image_id": 3, "category_id": 4, "bbox": [1, 1, 2, 2]}
    plain = read_coco(write(tmp_path / "boxes.json", [annotation]))
    file = read_coco(write(tmp_path / "boxes.json", [{**annotation, "area": float("nan")}]))
    np.testing.assert_array_equal(file.boxes, plain.boxes)


def test_a_mistake_in_the_file_is_named_by_its_place(tmp_path):
    path = write(tmp_path / "boxes.json", [])
    path.write_text(path.read_text().replace('"categories": [', '"categories": [\n,'))
    with pytest.raises(InputError, match=r"boxes\.json: not a readable JSON file .*line 2 column 1"):
        read_coco(path)
