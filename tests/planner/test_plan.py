"""The predicted peak against PyTorch's own allocation events of a real step on the CPU, and the largest micro batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from convoy.ledger.skeleton import without_weights
from convoy.planner.allocator import MIB
from convoy.planner.plan import Family
from convoy.planner.steps import Training, record

BATCH = 8


def network(name: str) -> nn.Module:
    import torchvision

    built: nn.Module = getattr(torchvision.models, name)()
    return built


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, foreach=True)


def family(name: str, precision: str = "32", *, on_cuda: bool = True) -> Family:
    skeleton = without_weights(lambda: network(name))
    training = Training((3, 64, 64), 1000, sgd, precision, on_cuda=on_cuda, channels_last=False)
    return Family(record(skeleton, training, BATCH), record(skeleton, training, 2 * BATCH))


def measured(name: str, precision: str) -> int:
    """The most that PyTorch's allocator on the CPU had given out, by the profiler, with the parameters before it."""
    model = network(name).train()
    optimizer = sgd(model)
    before = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(3):
            pixels = torch.zeros(BATCH, 3, 64, 64, dtype=torch.uint8)
            images, labels = pixels.float(), torch.zeros(BATCH, dtype=torch.int64)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision != "32", cache_enabled=False):
                loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            del pixels, images, labels, loss
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    current = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    return before + peak


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x1_0"])
def test_the_peak_of_a_real_step_on_the_cpu_in_fp32(name: str) -> None:
    predicted = family(name, on_cuda=False).peak(BATCH).allocated_bytes
    assert predicted == pytest.approx(measured(name, "32"), rel=0.03)


@pytest.mark.parametrize("expandable", [False, True])
def test_the_largest_micro_batch_fits_and_one_more_does_not(expandable: bool) -> None:
    resnet = family("resnet18")
    largest = resnet.largest(2048 * MIB, expandable=expandable)
    assert largest > BATCH
    assert resnet.fits(largest, 2048 * MIB, expandable=expandable)
    assert not resnet.fits(largest + 1, 2048 * MIB, expandable=expandable)


def test_categories_add_up_to_the_peak() -> None:
    peak = family("resnet18").peak(BATCH)
    assert sum(peak.categories.values()) == peak.allocated_bytes
    assert peak.phase.startswith(("step 2", "step 3"))
