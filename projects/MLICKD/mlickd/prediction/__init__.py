"""Predictions of a trained model for any photos."""

from .predictor import Prediction, Predictor, load_model

__all__ = ["Prediction", "Predictor", "load_model"]
