"""Regions are selected by rule, a part of them keeps its knowledge, and the loader adds the knowledge to each batch."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlickd.distillation import KnowledgeLoader, TeacherKnowledge, TeacherOutputs, select_regions
from mlickd.modeling.roi_heads import region_scores

BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 40, 40], [5, 5, 30, 30]])
SCORES = torch.tensor([[0.1, 0.4], [0.05, 0.3], [0.2, 0.0], [0.01, 0.02]])
OBJECTNESS = torch.tensor([-0.1, 0.9, 0.3, 0.2])


@pytest.mark.parametrize(
    ("options", "kept", "weights"),
    [
        ({"weight": "teacher"}, [0, 2, 3], [1.0, 0.5, 0.05]),
        ({"weight": "proposal"}, [1, 2, 3], [1.0, 0.3 / 0.9, 0.2 / 0.9]),
        ({"weight": "proposal", "top_k": 1}, [1], [1.0]),
        ({"weight": "proposal", "nms_thresh": 1.0, "top_k": 0}, [1, 2, 3, 0], [1.0, 0.3 / 0.9, 0.2 / 0.9, 0.0]),
        ({"weight": "uniform", "nms_thresh": 1.0}, [0, 1, 2, 3], [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_regions_are_selected_by_the_configured_rule(options, kept, weights) -> None:
    keep, s = select_regions(BOXES, SCORES, OBJECTNESS, **options)
    assert keep.tolist() == kept
    assert s.tolist() == pytest.approx(weights)


@given(st.integers(1, 8), st.sampled_from(["teacher", "proposal", "uniform"]), st.integers(0, 2**31))
def test_a_part_of_the_regions_equals_a_selection_from_the_part(count, weight, seed) -> None:
    """Without suppression and without a limit, every region of the part is selected."""
    generator = np.random.default_rng(seed)
    class_logits, detection_logits = torch.from_numpy(generator.normal(size=(2, count, 3), scale=2).astype(np.float32))
    boxes, objectness = torch.rand(count, 4), torch.from_numpy(generator.random(count, dtype=np.float32))
    rule = {"weight": weight, "nms_thresh": 1.0, "top_k": 0}
    scores = region_scores(class_logits, detection_logits)
    selected, weights = select_regions(boxes, scores, objectness, **rule)
    features = {"a": torch.arange(count, dtype=torch.float32)[selected][:, None]}
    whole = TeacherOutputs(class_logits, detection_logits, selected, weights, features, {"a": (2, 2)}, weights * 2)

    in_view = torch.from_numpy(np.flatnonzero(generator.random(count) < 0.6))
    part = whole.keep_regions(in_view, weights_from_scores=weight == "teacher")
    rest = region_scores(class_logits[in_view], detection_logits[in_view])
    expected, s = select_regions(boxes[in_view], rest, objectness[in_view], **rule)
    assert sorted(part.selected.tolist()) == sorted(expected.tolist())
    ours = dict(zip(part.selected.tolist(), part.region_weights.tolist(), strict=True))
    assert [ours[i] for i in expected.tolist()] == pytest.approx(s.tolist(), rel=1e-5, abs=1e-30)
    halved = region_scores(class_logits * 2, detection_logits * 2).sum(dim=0)
    torch.testing.assert_close(whole.to_knowledge(boxes, temperature=0.5).image_scores, halved)
    # Features and their factors stay with their regions.
    assert part.features["a"][:, 0].tolist() == in_view[part.selected].tolist()
    assert len(part.proposal_weights) == len(part.selected)


def test_pooled_maps_are_flipped_and_vectors_are_not() -> None:
    maps, vectors = torch.rand(2, 3, 4, 4), torch.rand(2, 3)
    known = TeacherOutputs(torch.rand(2, 5), torch.rand(2, 5), features={"maps": maps, "vectors": vectors})
    mirrored = known.mirror().features
    np.testing.assert_array_equal(mirrored["maps"], maps.numpy()[..., ::-1])
    assert torch.equal(mirrored["vectors"], vectors)


def source(batch: list[dict]) -> list[TeacherKnowledge]:
    return [TeacherKnowledge(torch.tensor([sample["image_id"]])) for sample in batch]


@pytest.mark.parametrize("read_ahead", [False, True])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_each_sample_gets_its_knowledge_in_order(read_ahead: bool, count: int) -> None:
    batches = [[{"image_id": 2 * i}, {"image_id": 2 * i + 1}] for i in range(count)]
    found = list(KnowledgeLoader(batches, source, read_ahead=read_ahead))
    assert [sample["image_id"] for batch in found for sample in batch] == list(range(2 * count))
    assert all(s["knowledge"].image_scores.item() == s["image_id"] for batch in found for s in batch)


def test_only_the_next_batch_is_read_ahead() -> None:
    read, second = [], threading.Event()

    def batches():
        for number in range(5):
            read.append(number)
            if number == 1:
                second.set()
            yield [{"image_id": number}]

    loader = iter(KnowledgeLoader(batches(), source, read_ahead=True))
    next(loader)
    assert second.wait(10)
    loader.close()
    assert read == [0, 1]


def test_an_error_is_raised_at_its_batch() -> None:
    failing = iter(KnowledgeLoader([[{"image_id": 0}], [{}]], source, read_ahead=True))
    assert next(failing)[0]["knowledge"].image_scores.item() == 0
    with pytest.raises(KeyError):
        next(failing)
