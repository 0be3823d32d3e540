"""Training and evaluation from a configuration."""

from .inputs import check_inputs
from .optimizer import build_optimizer
from .setup import complete_config, load_config, prepare, setup
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
