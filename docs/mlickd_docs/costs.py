"""What a training step needs for one image, counted on a CPU: the ground of the estimates for GPUs.

Counted anew, after a change of the networks, with

    python docs/mlickd_docs/costs.py
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import mlickd  # noqa: F401  # isort: skip, first, to keep Detectron2 quiet
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch.autograd.graph import saved_tensors_hooks

from mlickd.config import default_config
from mlickd.engine.performance import multiply_adds

__all__ = ["COSTS_FILE", "TrainingCost", "count_costs", "read_costs"]

COSTS_FILE = Path(__file__).with_name("costs.json")
_CONFIGS = Path(__file__).parents[2] / "configs"
_NETWORKS = {"teacher": "wsd_vgg16.yaml", "student": "cls_vgg16.yaml"}


@dataclass(frozen=True)
class TrainingCost:
    """Of one image.

    Attributes:
        multiply_adds: of the forward pass at the test size.
        saved_bytes: what the forward pass in float32 keeps for the backward pass, at the largest training size and
            without parameters.
        parameters: number of them.
    """

    multiply_adds: int
    saved_bytes: int
    parameters: int


def count_costs(config_file: Path) -> TrainingCost:
    """Of the model of a configuration, for an image with `DATASETS.PROPOSALS.TOP_K` proposals."""
    cfg = default_config()
    cfg.merge_from_file(str(config_file))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.NUM_CLASSES", 80, "MODEL.BACKBONE.WEIGHTS", ""])
    model = build_model(cfg)
    return TrainingCost(
        multiply_adds=int(multiply_adds(model.eval(), [_sample(cfg, cfg.INPUT.SIZE_TEST)])),
        saved_bytes=_saved_bytes(model.train(), _sample(cfg, max(cfg.INPUT.SIZES_TRAIN))),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _saved_bytes(model: torch.nn.Module, sample: dict) -> int:
    """Memory that autograd holds after a forward pass; storage that several tensors share counts once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model([sample])  # keeps the graph, and with it every storage, until all are counted
    assert losses
    return sum(saved.values())


def _sample(cfg: CfgNode, side: int) -> dict:
    """A random picture with random proposals and a label."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8)
    count = cfg.DATASETS.PROPOSALS.TOP_K
    corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values.flatten(start_dim=1)
    proposals = Instances((side, side))
    proposals.proposal_boxes = Boxes(corners * side)
    proposals.objectness = torch.rand(count, generator=generator)
    sample = {"image": image, "proposals": proposals, "labels": [0], "image_id": 0, "file_name": "random"}
    return sample | {"height": side, "width": side}


def read_costs() -> dict[str, TrainingCost]:
    """By `teacher` and `student`, as they were counted last."""
    return {name: TrainingCost(**cost) for name, cost in json.loads(COSTS_FILE.read_text()).items()}


if __name__ == "__main__":
    counted = {name: asdict(count_costs(_CONFIGS / file)) for name, file in _NETWORKS.items()}
    COSTS_FILE.write_text(json.dumps(counted, indent=2) + "\n")
