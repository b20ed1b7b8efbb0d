"""Two ranks on one card, with Gloo, since NCCL refuses two ranks on one GPU: 50 steps of DistributedDataParallel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import distributed
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from convoy.models.building.build import build_model
from convoy.training.preflight import read


def figures(device: str) -> Iterator[tuple[str, object]]:
    """Yield the steps/s of ResNet-18 at 32 pixels, and whether both ranks have the same weights."""
    steps = 50 if device == "cuda" else 3
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
        program = [sys.executable, "-m", "benchmarks.gpu.two_ranks", device, str(steps), folder]
        ranks = [subprocess.Popen(program, env={**os.environ, **own, "RANK": str(rank)}) for rank in range(2)]
        codes = [rank.wait() for rank in ranks]
        if any(codes):
            raise SystemExit(f"exit codes {codes}")
        results = [torch.load(Path(folder, f"{rank}.pt"), weights_only=True) for rank in range(2)]
    yield "steps/s", steps / max(result["seconds"] for result in results)
    yield (
        "equal weights",
        all(
            torch.equal(first, second)
            for first, second in zip(results[0]["weights"], results[1]["weights"], strict=True)
        ),
    )


def _rank(device: str, steps: int, folder: Path) -> None:
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    torch.manual_seed(rank)
    config = read(["model=resnet18", "data=digits", "data.channels=3", "data.image_size=32"])
    network = build_model(config.model, num_classes=10, in_channels=3, image_size=32).to(device)
    parallel = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    images = torch.randn(16, 3, 32, 32, device=device)
    targets = torch.arange(16, device=device) % 10
    began = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(parallel(images), targets).backward()
        optimizer.step()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    weights = [parameter.detach().cpu() for parameter in network.parameters()]
    torch.save({"seconds": seconds, "weights": weights}, folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    _rank(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
