"""What is random in an iteration is a function of seed, iteration and process."""

from __future__ import annotations

import random

import numpy as np
import torch

__all__ = ["seed_iteration"]


def seed_iteration(seed: int, iteration: int, rank: int = 0) -> None:
    """Seed all generators of this process, so that a resumed run draws what the whole run would have drawn.

    Args:
        seed: of the run, 0 or more.
        iteration: from 0.
        rank: of the process; each drops out other units.
    """
    # Behind what the sampler draws images, permutations, crops and colors from.
    state = int(np.random.SeedSequence((seed, 4, iteration, rank)).generate_state(1)[0])
    torch.manual_seed(state)
    np.random.seed(state)  # noqa: NPY002, what others draw from
    random.seed(state)
