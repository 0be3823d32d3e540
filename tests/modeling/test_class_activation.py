"""Maps of where a classifier finds its classes, against its logits."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from helpers.small_models import CLASSES, CONFIGS, make_batch
from mlickd.config import default_config
from mlickd.errors import InputError
from mlickd.modeling import MultiLabelClassifier
from mlickd.modeling.class_activation import ClassifierWithActivationMaps


def classifier(*options: object) -> MultiLabelClassifier:
    """A small one with weights that differ from cell to cell and class to class."""
    cfg = default_config()
    cfg.merge_from_file(str(CONFIGS / "Base-Classifier.yaml"))
    cfg.merge_from_list(["MODEL.VGG.DEPTH", 11, "MODEL.VGG.WIDTH", 0.1, "MODEL.DEVICE", "cpu"])
    cfg.merge_from_list(["MODEL.NUM_CLASSES", CLASSES, *options])
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    torch.nn.init.normal_(model.head.linear.weight)
    torch.nn.init.normal_(model.head.linear.bias)
    return model


def test_with_average_pooling_the_mean_of_a_map_and_the_bias_are_the_logit():
    model, batch = classifier(), make_batch(3, side=64)
    with torch.no_grad():
        found, plain = ClassifierWithActivationMaps(model)(batch), model(batch)
    for with_maps, without in zip(found, plain, strict=True):
        maps = with_maps["activation_maps"]
        assert maps.shape == (CLASSES, 4, 4)
        assert maps.std(dim=(1, 2)).min() > 1e-6, "a map that is everywhere the same would show nothing"
        assert torch.equal(with_maps["image_scores"], without["image_scores"])
        logits = maps.mean(dim=(1, 2)) + model.head.linear.bias
        torch.testing.assert_close(logits.sigmoid(), without["image_scores"], rtol=1e-4, atol=1e-6)


def test_a_map_is_the_classifier_at_each_cell():
    model, batch = classifier("MODEL.CLASSIFIER.POOLING", "max"), make_batch(1, side=64)
    with torch.no_grad():
        maps = ClassifierWithActivationMaps(model)(batch)[0]["activation_maps"]
        features = model.backbone(model.preprocess([batch[0]["image"]]).tensor)["conv5"][0]
    expected = sum(
        model.head.linear.weight.detach()[:, channel, None, None] * features[channel]
        for channel in range(len(features))
    )
    torch.testing.assert_close(maps, expected)


def test_where_there_is_no_exact_map_that_is_said():
    with pytest.raises(InputError, match="POOLING fc"):
        ClassifierWithActivationMaps(classifier("MODEL.CLASSIFIER.POOLING", "fc"))(make_batch(1, side=64))
    padded = classifier()
    type(padded.backbone).size_divisibility, whole = 48, type(padded.backbone).size_divisibility
    try:
        with pytest.raises(InputError, match="INPUT.SIZE_TEST to a multiple of 48"):
            ClassifierWithActivationMaps(padded)(make_batch(1, side=64))
    finally:
        type(padded.backbone).size_divisibility = whole
