"""A custom distiller that weights teacher scores by their confidence, and training with it."""

from detectron2.config import configurable
from torch import nn
from torch.nn import functional as F

from mlickd.cli.train_net import main
from mlickd.distillation import PREDICTION_DISTILLER_REGISTRY
from mlickd.distillation.knowledge import known_image_scores
from mlickd.errors import run_tool


@PREDICTION_DISTILLER_REGISTRY.register()
class SureTeacherDistiller(nn.Module):
    """Binary cross-entropy with teacher scores p as targets, weighted by |2p - 1|."""

    @configurable
    def __init__(self, *, loss_weight: float):
        super().__init__()
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg):
        """Return the arguments from ``KD.PREDICTION``."""
        return {"loss_weight": cfg.KD.PREDICTION.WEIGHT}

    def forward(self, logits, knowledge):
        """Return the loss of student logits (N, C), given the teacher knowledge of the N images."""
        known, teacher = known_image_scores(knowledge, logits)
        if not known:  # only crops without regions
            return logits.new_zeros(())
        sure = (2 * teacher - 1).abs()
        loss = F.binary_cross_entropy_with_logits(logits[known], teacher, weight=sure, reduction="sum")
        return self.loss_weight * loss / len(knowledge)


def setup_environment():
    """Do nothing. Detectron2 imports this file, which registers the distiller, and then calls this function."""


if __name__ == "__main__":
    run_tool(main)
