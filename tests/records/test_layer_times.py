"""Tests of the times of layers."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from benchmarks.gpu.layer_times import kernels_ms
from torch import nn
from torch.profiler import ProfilerActivity, profile

from convoy.records import layer_times
from convoy.records.layer_times import LayerTimes


def test_a_gpu_waits_for_the_launches_of_each_pass_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    now = [0.0]
    monkeypatch.setattr(torch.cuda, "_sleep", waits.append)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = layer_times._CudaClock()
    for pass_s in (0.010, 0.030, 0.030):
        clock.begin_pass()
        now[0] += pass_s
    # 15 ms at the highest clock rate. Later passes contain the wait, which must not make it longer and longer.
    assert waits == [37_500_000, 37_500_000]


def test_the_time_of_the_optimizer_is_that_of_its_steps_per_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    network = nn.Linear(2, 2)

    class Slow(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            closure()
            times.begin_optimizer()  # as Lightning's hook, after the backward pass in the closure
            now[0] += 0.006

    def passes() -> None:
        for _ in range(2):
            times.begin_step()
            network(torch.ones(1, 2)).sum().backward()
            now[0] += 1

    optimizer = Slow(network.parameters(), 0.1)
    times = LayerTimes(network, torch.device("cpu"), optimizer)
    for _ in range(3):
        optimizer.step(passes)
    times.detach()
    optimizer.step(passes)
    assert times.optimizer_ms() == pytest.approx(6 * 3 / 8)  # 3 timed steps, 8 passes
    assert LayerTimes(network, torch.device("cpu")).optimizer_ms() is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_times_of_layers_on_a_gpu_are_those_of_their_kernels() -> None:
    layers = [nn.Conv2d(64, 64, 3, padding=1, bias=False) for _ in range(20)]
    network = nn.Sequential(*layers).cuda()
    images = torch.randn(32, 64, 8, 8, device="cuda")  # small: launching takes longer than computing

    def step() -> None:
        network.zero_grad()
        network(images).sum().backward()

    for _ in range(5):
        step()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as recorded:
        step()
        torch.cuda.synchronize()
    times = LayerTimes(network, torch.device("cuda"))
    for _ in range(21):
        times.begin_step()
        step()
    measured_ms = sum(one.forward_time_ms + (one.backward_time_ms or 0) for one in times.medians().values())
    times.detach()
    # Without the sum, its gradient and the gradients' zeros; an event takes about a microsecond, a kernel here a few.
    assert 0.7 * kernels_ms(recorded) < measured_ms < 2 * kernels_ms(recorded)
