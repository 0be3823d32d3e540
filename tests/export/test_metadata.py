import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlickd.errors import InputError
from mlickd.export import ExportMetadata

METADATA = ExportMetadata(
    class_names=("dog", "große Katze"),
    thresholds=(0.5, 0.25),
    thresholds_from="TEST.THRESHOLD",
    input_size=32,
    preprocessing=True,
    pixel_mean=(120.0, 110.0, 100.0),
    pixel_std=(60.0, 50.0, 40.0),
    channel_order="RGB",
    provenance={"data": [{"name": "pets_train"}]},
)


def test_properties_are_texts_of_the_same_metadata():
    properties = METADATA.properties()
    assert all(isinstance(value, str) for value in properties.values())
    assert json.loads(properties["class_names"]) == ["dog", "große Katze"], "readable without this project"
    assert properties["channel_order"] == "RGB" and "draft" in properties["resize"]
    assert ExportMetadata.from_properties(properties, "file") == METADATA


@given(
    st.sampled_from(sorted(set(METADATA.properties()) - {"thresholds_from", "resize", "provenance"})),
    st.sampled_from([None, "", "null", '"x"', "-1", "1e999", "NaN", "[1", "[" * 100_000, '["dog", "dog"]', "[2, 3]"]),
)
def test_damaged_fields_are_one_line(name: str, value: str | None):
    properties = METADATA.properties()
    del properties[name]
    if value is not None:
        properties[name] = value
    with pytest.raises(InputError, match="^pets.onnx: [^\n]*$"):
        ExportMetadata.from_properties(properties, "pets.onnx")


def test_input_without_preprocessing_is_normalized():
    views = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    metadata = replace(METADATA, preprocessing=False, channel_order="BGR")
    images = metadata.network_input(views)
    assert images.shape == metadata.input_shape(2) and images.dtype == np.float32
    assert images[1, 0, 3, 4] == pytest.approx((views[1, 3, 4, 2] - 120.0) / 60.0)
    assert images[1, 2, 3, 4] == pytest.approx((views[1, 3, 4, 0] - 100.0) / 40.0)
    assert METADATA.network_input(views) is views
