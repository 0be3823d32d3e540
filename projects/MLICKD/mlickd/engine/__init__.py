"""Training and evaluation from a configuration."""

from .. import registration  # noqa: F401
from .input_checks import check_inputs
from .optimizer import build_optimizer
from .run_config import finalize_config, load_config
from .trainer import Trainer, load_initial_weights

__all__ = ["Trainer", "build_optimizer", "check_inputs", "finalize_config", "load_config", "load_initial_weights"]
