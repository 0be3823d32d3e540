"""A custom distiller that weights teacher scores by their confidence, and training with it."""

from torch.nn import functional as F

from mlickd.cli.train_net import main
from mlickd.distillation import PREDICTION_DISTILLER_REGISTRY, PredictionDistiller
from mlickd.errors import run_tool


@PREDICTION_DISTILLER_REGISTRY.register()
class SureTeacherDistiller(PredictionDistiller):
    """Binary cross-entropy with teacher scores p as targets, weighted by |2p - 1|."""

    def compare(self, teacher, logits):
        """Return the mean loss of K views, given teacher scores and student logits, (K, C) each."""
        sure = (2 * teacher - 1).abs()
        return F.binary_cross_entropy_with_logits(logits, teacher, weight=sure, reduction="sum") / len(logits)


def setup_environment():
    """Do nothing. Detectron2 imports this file, which registers the distiller, and then calls this function."""


if __name__ == "__main__":
    run_tool(main)
