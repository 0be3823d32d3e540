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


def test_properties_are_texts_that_give_the_same_again():
    properties = METADATA.properties()
    assert all(isinstance(value, str) for value in properties.values())
    assert ExportMetadata.from_properties(properties, "file") == METADATA


@given(
    st.sampled_from(sorted(set(METADATA.properties()) - {"thresholds_from", "resize"})),
    st.sampled_from([None, "", "null", '"x"', "-1", "1e999", "NaN", "[1", "[" * 100_000, "no JSON"]),
)
def test_what_is_missing_or_no_value_is_named(name, value):
    properties = METADATA.properties()
    del properties[name]
    if value is not None:
        properties[name] = value
    with pytest.raises(InputError) as caught:
        ExportMetadata.from_properties(properties, "pets.onnx")
    message = str(caught.value)
    assert message.startswith("pets.onnx: ") and "\n" not in message
    assert name in message or name.startswith("format")


@pytest.mark.parametrize(
    "change, named",
    [
        ({"thresholds": (0.5,)}, "1 for 2 class_names"),
        ({"thresholds": (0.5, 1.5)}, "thresholds"),
        ({"thresholds": (0.5, float("nan"))}, "thresholds"),
        ({"class_names": ("dog", "dog")}, "there twice"),
        ({"class_names": (), "thresholds": ()}, "class_names"),
        ({"class_names": ("dog", 3)}, "class_names"),
        ({"input_size": 0}, "input_size"),
        ({"input_size": True}, "input_size"),
        ({"preprocessing": 1}, "preprocessing"),
        ({"pixel_std": (1.0, 0.0, 1.0)}, "pixel_std"),
        ({"pixel_mean": (1.0, 0.0)}, "pixel_mean"),
        ({"channel_order": "GBR"}, "channel_order"),
        ({"provenance": []}, "provenance"),
    ],
)
def test_values_that_cannot_be_are_refused(change, named):
    with pytest.raises(InputError, match=named):
        ExportMetadata.from_properties(replace(METADATA, **change).properties(), "pets.onnx")


def test_a_later_format_is_not_guessed_at():
    properties = METADATA.properties() | {"format_version": json.dumps(2)}
    with pytest.raises(InputError, match="has format version 2, this is version 1"):
        ExportMetadata.from_properties(properties, "pets.onnx")


def test_without_preprocessing_the_input_is_normalized_in_the_order_of_the_network():
    views = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    metadata = replace(METADATA, preprocessing=False, channel_order="BGR")
    images = metadata.network_input(views)
    assert images.shape == metadata.input_shape(2) and images.dtype == np.float32
    assert images[1, 0, 3, 4] == pytest.approx((views[1, 3, 4, 2] - 120.0) / 60.0)
    assert images[1, 2, 3, 4] == pytest.approx((views[1, 3, 4, 0] - 100.0) / 40.0)
    assert METADATA.network_input(views) is views
