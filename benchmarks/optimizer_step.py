"""Optimizer step: fused implementation compared with torch's default, on the parameters of a ResNet-18.

    python -m benchmarks.optimizer_step --model vgg11

Both arms update the same parameters with the same gradients; a round has ten steps per arm.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
import torchvision

from benchmarks.results import Result
from benchmarks.rounds import Arm, compare, machine
from convoy.optim.build_optimizer import build_optimizer

STEPS = 10
OPTIMIZERS = {
    "SGD": {"_target_": "torch.optim.SGD", "lr": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    "AdamW": {"_target_": "torch.optim.AdamW", "lr": 1e-4, "weight_decay": 0.05},
}


def arm(model: str, node: dict[str, object], *, fuse: bool) -> Arm:
    """Return an arm that measures optimizer steps per second."""
    torch.manual_seed(0)
    network = getattr(torchvision.models, model)(num_classes=10).to(memory_format=torch.channels_last)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer = build_optimizer(node, network, fuse=fuse)

    def run() -> float:
        start = time.perf_counter()
        for _ in range(STEPS):
            optimizer.step()
        return STEPS / (time.perf_counter() - start)

    return run


def main(words: Sequence[str] | None = None) -> list[Result]:
    """Print both comparisons; the rates are steps per second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="name of a torchvision model")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(words)
    print(machine("torch"))
    results = []
    for name, node in OPTIMIZERS.items():
        ours, peer = arm(given.model, node, fuse=True), arm(given.model, node, fuse=False)
        title = f"{name}, parameters of {given.model}"
        results.append(compare(title, ("fused", ours), ("torch's default", peer), given.rounds, goal=1))
    return results


if __name__ == "__main__":
    main()
