"""What a resumed run does to the curves of the killed one."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.utils.events import EventStorage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlickd.engine.writers import TensorBoardWriter, forget_metrics

FIRST = '{"iteration": 19, "total_loss": 3.0}\n'
SECOND = '{"iteration": 39, "total_loss": 2.0}\n'


@pytest.mark.parametrize(
    ("content", "iteration", "kept"),
    [
        (FIRST + SECOND, 60, FIRST + SECOND),
        (FIRST + SECOND, 39, FIRST),
        (FIRST + SECOND, 40, FIRST + SECOND),
        (FIRST + SECOND, 0, ""),
        (FIRST + SECOND[:20], 60, FIRST),
        (FIRST + SECOND[:-1], 60, FIRST),
        (FIRST + SECOND + FIRST, 30, FIRST),
        ("", 5, ""),
    ],
)
def test_lines_that_are_written_once_more_are_cut_off(content: str, iteration: int, kept: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with path.open("a") as open_already:
        forget_metrics(path, iteration)
        open_already.write("new\n")
    assert path.read_text() == kept + "new\n"


def test_without_metrics_there_is_nothing_to_forget(tmp_path: Path) -> None:
    forget_metrics(tmp_path / "metrics.json", 3)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_shows_each_iteration_once(tmp_path: Path) -> None:
    def write(start: int, values: dict[int, float]) -> None:
        writer = TensorBoardWriter(str(tmp_path), lambda: start)
        with EventStorage(start) as storage:
            for storage.iter, value in values.items():
                storage.put_scalar("loss", value, smoothing_hint=False)
                writer.write()
        writer.close()

    write(0, {0: 5.0, 1: 4.0, 2: 3.0})
    write(1, {1: 4.5, 2: 3.5})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 5.0), (1, 4.5), (2, 3.5)]
