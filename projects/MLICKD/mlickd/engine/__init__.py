"""Training and evaluation from a configuration."""

from .optimizer import build_optimizer
from .setup import check_inputs, complete_config, load_config, prepare, setup
from .trainer import Trainer, load_initial_weights

__all__ = [
    "Trainer",
    "build_optimizer",
    "check_inputs",
    "complete_config",
    "load_config",
    "load_initial_weights",
    "prepare",
    "setup",
]
