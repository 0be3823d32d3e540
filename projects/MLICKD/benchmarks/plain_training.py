"""Train a classifier with timm, torchvision and PyTorch only, with schedule and views of configs/folder/cls.yaml."""

import json
import math
import sys

import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

_BATCH, _SIDE, _RATE, _WARM_UP = 16, 128, 2e-4, 10


class Photos(Dataset):
    """Views of photos, random in training, with their labels."""

    def __init__(self, rows: list[tuple[str, list[float]]], training: bool):
        self.rows = rows
        random = [v2.RandomResizedCrop(_SIDE, scale=(0.4, 1.0)), v2.RandomHorizontalFlip()]
        views = random if training else [v2.Resize((_SIDE, _SIDE))]
        normalize = v2.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        self.transform = v2.Compose([*views, v2.ToDtype(torch.float32, scale=True), normalize])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        path, target = self.rows[index]
        return self.transform(decode_image(path, ImageReadMode.RGB)), torch.tensor(target, dtype=torch.float32)


def train(rows: list[tuple[str, list[float]]], iterations: int, workers: int) -> nn.Module:
    """Return a tf_efficientnet_lite0 that starts from random weights and trains for a number of iterations.

    Args:
        rows: paths of photos and their targets, C values 0 or 1.
        iterations: number of iterations.
        workers: number of loader workers.
    """
    network = timm.create_model("tf_efficientnet_lite0", num_classes=len(rows[0][1])).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)
    last = list(network.get_classifier().parameters())
    others = [p for p in network.parameters() if all(p is not other for other in last)]
    groups = [{"params": others, "lr": _RATE}, {"params": last, "lr": 10 * _RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)

    def factor(step: int) -> float:
        return min(1, (step + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / iterations))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    full = len(rows) >= _BATCH  # with fewer photos, all batches are smaller
    loader = DataLoader(
        Photos(rows, True), _BATCH, shuffle=True, drop_last=full, num_workers=workers, persistent_workers=workers > 0
    )
    step = 0
    while step < iterations:
        for images, targets in loader:
            loss = nn.functional.binary_cross_entropy_with_logits(network(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
            if step == iterations:
                break
    return network


@torch.inference_mode()
def predict(network: nn.Module, rows: list[tuple[str, list[float]]], workers: int) -> torch.Tensor:
    """Return the probabilities (N, C) of photos."""
    loader = DataLoader(Photos(rows, False), _BATCH, num_workers=workers)
    return torch.cat([network.eval()(images).sigmoid() for images, _ in loader])


if __name__ == "__main__":
    # Arguments: number of iterations, number of workers, output. Standard input: rows of training and test, as JSON.
    iterations, workers, output = sys.argv[1:]
    rows, test_rows = json.load(sys.stdin)
    trained = train(rows, int(iterations), int(workers))
    torch.save({"model": trained.state_dict(), "scores": predict(trained, test_rows, int(workers))}, output)
