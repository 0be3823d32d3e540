"""Estimates for GPUs: what they are counted from, and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlickd_docs.costs import count_costs, read_costs
from mlickd_docs.estimates import training_estimates, training_steps

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_counts_of_the_student_are_those_of_the_networks_today() -> None:
    assert count_costs(CONFIGS / "cls_vgg16.yaml") == read_costs()["student"]


@pytest.mark.slow
def test_the_counts_of_the_teacher_are_those_of_the_networks_today() -> None:
    assert count_costs(CONFIGS / "wsd_vgg16.yaml") == read_costs()["teacher"]


def test_steps_follow_the_configurations() -> None:
    costs = read_costs()
    steps = {step.name: step for step in training_steps(CONFIGS, train_images=1000)}
    # 50,000 iterations of 32 images; a multiply-add is two operations, and training takes three passes.
    assert steps["teacher"].operations == 50_000 * 32 * costs["teacher"].multiply_adds * 6
    assert steps["teacher"].memory == 12 * costs["teacher"].parameters + 32 * costs["teacher"].saved_bytes
    assert steps["knowledge cache"].operations == 2 * 1000 * costs["teacher"].multiply_adds * 2
    # Both stages together take as many iterations as the baseline.
    stages = steps["distilled, stage 1"].operations + steps["distilled, stage 2"].operations
    assert stages == steps["baseline"].operations


def test_the_table_has_a_row_for_each_step() -> None:
    header, _, *rows = training_estimates(CONFIGS, ("COCO", "", 1000), ("VOC", "voc07", 1000)).splitlines()
    assert "hours at 10" in header and len(rows) == 10 and rows[5].startswith("| VOC")
