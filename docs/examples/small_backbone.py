"""A custom backbone of four convolutions for teacher or student, and training with it."""

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn

from mlickd.cli.train_net import main
from mlickd.errors import run_tool


class SmallBackbone(Backbone):
    """Four convolutions with stride 2. The name of the last map is ``last``."""

    def __init__(self, channels: int):
        super().__init__()
        widths = [3, *(channels * 2**k for k in range(4))]
        layers = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.channels = widths[-1]

    def forward(self, x):
        """Compute ``last`` (N, 256, H / 16, W / 16) from images (N, 3, H, W)."""
        return {"last": self.layers(x)}

    def output_shape(self):
        """Return the number of channels and the stride of ``last``."""
        return {"last": ShapeSpec(channels=self.channels, stride=16)}


@BACKBONE_REGISTRY.register()
def build_small_backbone(cfg, input_shape):
    """Build the backbone for ``MODEL.BACKBONE.NAME build_small_backbone``."""
    return SmallBackbone(channels=32)


if __name__ == "__main__":
    run_tool(main)
