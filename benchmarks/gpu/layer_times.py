"""Times of layers as a run measures them, compared with a whole step and with torch.profiler's kernel times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from convoy.models.building.build import build_model
from convoy.records.layer_times import LayerTimes
from convoy.training.preflight import read

STEPS = 20
NETWORKS = {"lenet5": (128, "data=digits"), "resnet20": (128, "data=cifar10"), "resnet50": (64, "data=imagenet")}
"""Batch size on a GPU, and the data whose image size is used."""


def figures(device: str) -> Iterator[tuple[str, object]]:
    """Yield, per network in float32, the ms of all layers, of the step without hooks, and of the kernels."""
    for model, (batch, data) in NETWORKS.items():
        if device == "cpu":
            if model == "resnet50":
                continue
            batch = 16
        config = read([f"model={model}", data, "data.root=."] if data != "data=digits" else [f"model={model}", data])
        sizes = {"in_channels": config.data.channels, "image_size": config.data.image_size}
        network = build_model(config.model, num_classes=10, **sizes).to(device).train()
        side = config.data.image_size
        images = torch.randn(batch, config.data.channels, side, side, device=device)
        targets = torch.zeros(batch, dtype=torch.int64, device=device)
        step = _step_of(network, images, targets)
        for _ in range(3):
            step()
        yield f"{model}, step, ms", statistics.median(_elapsed_ms(step, device) for _ in range(STEPS))
        yield f"{model}, kernels, ms", _kernels_ms(step, device)
        times = LayerTimes(network, torch.device(device))
        for _ in range(STEPS):
            times.begin_step()
            step()
        medians = times.medians()
        times.detach()
        yield f"{model}, layers, ms", sum(one.forward_time_ms + (one.backward_time_ms or 0) for one in medians.values())


def _step_of(network: nn.Module, images: Tensor, targets: Tensor) -> Callable[[], None]:
    def step() -> None:
        network.zero_grad()
        functional.cross_entropy(network(images), targets).backward()

    return step


def _elapsed_ms(step: Callable[[], None], device: str) -> float:
    if device == "cpu":
        began = time.perf_counter()
        step()
        return 1e3 * (time.perf_counter() - began)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))


def _kernels_ms(step: Callable[[], None], device: str) -> float:
    """Return the sum of the kernels' durations (CPU: of the operations' own durations) in one step."""
    kinds = [ProfilerActivity.CUDA, ProfilerActivity.CPU] if device == "cuda" else [ProfilerActivity.CPU]
    with profile(activities=kinds) as recorded:
        step()
        if device == "cuda":
            torch.cuda.synchronize()
    if device == "cuda":
        return kernels_ms(recorded)
    return float(sum(row.self_cpu_time_total for row in recorded.key_averages())) / 1e3


def kernels_ms(recorded: profile) -> float:
    """Return the sum of the durations of all kernels on CUDA, in ms.

    The rows of operations contain the time of their kernels again, and are left out.
    """
    rows = [row for row in recorded.key_averages() if row.device_type == DeviceType.CUDA and not row.is_user_annotation]
    return float(sum(row.self_device_time_total for row in rows)) / 1e3
