"""An optimizer's step: fused against torch's default, over the parameters of a ResNet-18.

    python -m benchmarks.optimizer_step

Both arms update the same parameters with the same gradients; a round is ten steps of each.
"""

from __future__ import annotations

import time

import torch
from torchvision.models import resnet18

from benchmarks.rounds import Arm, compare, machine
from convoy.optim.build import build_optimizer

ROUNDS = 7
STEPS = 10
OPTIMIZERS = {
    "SGD": {"_target_": "torch.optim.SGD", "lr": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    "AdamW": {"_target_": "torch.optim.AdamW", "lr": 1e-4, "weight_decay": 0.05},
}


def arm(node: dict[str, object], *, fuse: bool) -> Arm:
    """Steps a second."""
    torch.manual_seed(0)
    network = resnet18(num_classes=10).to(memory_format=torch.channels_last)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer = build_optimizer(node, network, fuse=fuse)

    def run() -> float:
        start = time.perf_counter()
        for _ in range(STEPS):
            optimizer.step()
        return STEPS / (time.perf_counter() - start)

    return run


def main() -> None:
    """Print both comparisons; the rates are steps a second."""
    print(f"optimizer step, 11.2 M parameters: {machine('torch')}")
    for name, node in OPTIMIZERS.items():
        compare(name, arm(node, fuse=True), arm(node, fuse=False), ROUNDS, names=("fused", "default"), goal=1)


if __name__ == "__main__":
    main()
