"""A trained model on any photos."""

from .loading import load_model
from .prediction import Prediction
from .predictor import Predictor

__all__ = ["Prediction", "Predictor", "load_model"]
