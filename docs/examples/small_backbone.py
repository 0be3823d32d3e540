"""Four convolutions with strides as a backbone of teacher or student, and training with it."""

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn

from mlickd.cli.train_net import main
from mlickd.errors import run_tool


class SmallBackbone(Backbone):
    """Maps of stride 2, 4, 8 and 16, of which the last is called ``last`` and returned."""

    def __init__(self, channels: int):
        super().__init__()
        widths = [3, *(channels * 2**k for k in range(4))]
        layers = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.channels = widths[-1]

    def forward(self, x):
        """From images (N, 3, H, W) to ``last``, (N, 256, H / 16, W / 16)."""
        return {"last": self.layers(x)}

    def output_shape(self):
        """Channels and stride of what is returned."""
        return {"last": ShapeSpec(channels=self.channels, stride=16)}


@BACKBONE_REGISTRY.register()
def build_small_backbone(cfg, input_shape):
    """What ``MODEL.BACKBONE.NAME`` asks for."""
    return SmallBackbone(channels=32)


if __name__ == "__main__":
    run_tool(main)
