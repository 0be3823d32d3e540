"""Knowledge joins the batch, at once or read ahead."""

from __future__ import annotations

import threading

import pytest
import torch

from mlickd.distillation import KnowledgeLoader, TeacherKnowledge


def source(batch: list[dict]) -> list[TeacherKnowledge]:
    return [TeacherKnowledge(torch.tensor([sample["image_id"]])) for sample in batch]


@pytest.mark.parametrize("read_ahead", [False, True])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_each_sample_gets_its_knowledge_in_order(read_ahead: bool, count: int) -> None:
    batches = [[{"image_id": 2 * i}, {"image_id": 2 * i + 1}] for i in range(count)]
    found = list(KnowledgeLoader(batches, source, read_ahead=read_ahead))
    assert [sample["image_id"] for batch in found for sample in batch] == list(range(2 * count))
    assert all(s["knowledge"].image_scores.item() == s["image_id"] for batch in found for s in batch)


def test_the_next_batch_is_read_while_this_one_is_used_and_no_more() -> None:
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


def test_an_error_comes_with_the_batch_that_has_it() -> None:
    failing = iter(KnowledgeLoader([[{"image_id": 0}], [{}]], source, read_ahead=True))
    assert next(failing)[0]["knowledge"].image_scores.item() == 0
    with pytest.raises(KeyError):
        next(failing)
