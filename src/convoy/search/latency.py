"""Latency of a network on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from convoy.config.image_size import sides_of
from convoy.config.schema import Config
from convoy.models.building.build import construct_model
from convoy.planner.workload import model_sizes

_WARM_UP, _PASSES = 3, 20
_MEASURED: dict[str, float] = {}
"""Latencies by network, so that two trials of one network don't differ by the noise of the measurement."""


def latency_ms(config: Config) -> float:
    """Return the milliseconds of a forward pass of one image: the shortest of 20, in evaluation, with new weights.

    On a GPU, the first visible one, it is the time until the result is there. On the CPU, it is the CPU time of one
    thread, so that other processes on the same cores, such as trials, don't count.

    Args:
        config: with the model and the data.
    """
    sizes, key = model_sizes(config), repr((config.model, config.data.channels, config.data.image_size))
    if key not in _MEASURED:
        _MEASURED[key] = _measured_ms(config, sizes)
    return _MEASURED[key]


def _measured_ms(config: Config, sizes: Mapping[str, Any]) -> float:
    device = torch.device("cuda" if torch.cuda.is_available() and config.hardware.accelerator != "cpu" else "cpu")
    node = {key: value for key, value in config.model.items() if key != "pretrained"}
    network = construct_model(node, **sizes).to(device).eval()
    image = torch.zeros(1, config.data.channels, *sides_of(config.data.image_size), device=device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            times = [_pass_s(network, image) for _ in range(_WARM_UP + _PASSES)]
    finally:
        torch.set_num_threads(threads)
    return 1000 * min(times[_WARM_UP:])


def _pass_s(network: torch.nn.Module, image: torch.Tensor) -> float:
    clock = time.perf_counter if image.is_cuda else time.thread_time
    start = clock()
    network(image)
    if image.is_cuda:
        torch.cuda.synchronize()
    return clock() - start
