"""Estimated workspaces: sizes by kind of convolution, their place in the replay, and a published run."""

from __future__ import annotations

import pytest
import torch
from benchmarks.planner_accuracy import imagenet_task, sgd
from benchmarks.published_memory import Run, runs
from tests.planner.test_planned_memory import BATCH, family
from torch import nn
from torch.profiler import ProfilerActivity, profile

from convoy.planner.allocator import Allocator
from convoy.planner.convolutions import BACKWARD, FORWARD, Convolution, copied_bytes
from convoy.planner.events import WORKSPACE
from convoy.planner.peak_memory import BatchSizeModel, Card
from convoy.planner.traced_training import Training, record
from convoy.planner.workspaces import estimated_bytes


def convolution(layer: nn.Conv2d, side: int, direction: str = FORWARD, dtype: str = "float32") -> Convolution:
    """Return the convolution of a layer that reads square images."""
    return Convolution(
        direction,
        (layer.in_channels, side, side),
        tuple(layer.weight.shape),  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        layer.groups,
        dtype,
        channels_last=False,
    )


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 96, 3, padding=1),
        nn.Conv2d(64, 128, 1, stride=2),
        nn.Conv2d(32, 48, 5, stride=2, padding=3, dilation=2),
        nn.Conv2d(48, 64, (1, 7), padding=(0, 3)),
    ],
)
def test_what_a_kernel_reads_is_copied(layer: nn.Conv2d) -> None:
    images = torch.empty(5, layer.in_channels, 29, 29, requires_grad=True)
    output = layer(images)
    read = images.nbytes + layer.weight.nbytes
    assert convolution(layer, 29).output_shape == output.shape[1:]
    assert estimated_bytes(convolution(layer, 29), 5) == read
    assert estimated_bytes(convolution(layer, 29, BACKWARD), 5) == read + output.nbytes
    assert estimated_bytes(convolution(layer, 29, dtype="bfloat16"), 5) == read // 2


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 64, 3, groups=64),
        nn.Conv2d(64, 64, 3, groups=2),
        nn.Conv2d(3, 64, 7, stride=2),
        nn.Conv2d(16, 96, 1),
    ],
    ids=["depthwise", "grouped", "first layer", "1x1 of few channels"],
)
def test_kinds_without_a_workspace(layer: nn.Conv2d) -> None:
    assert estimated_bytes(convolution(layer, 29), 5) == 0
    assert estimated_bytes(convolution(layer, 29, BACKWARD), 5) == 0


def test_images_of_one_pixel_are_in_both_memory_formats() -> None:
    squeeze = nn.Conv2d(256, 64, 1)
    assert estimated_bytes(convolution(squeeze, 1), 5) == 0
    assert estimated_bytes(convolution(squeeze, 2), 5) > 0


def test_images_in_channels_last_are_not_copied() -> None:
    found = family("resnet18").convolutions.values()
    assert any(estimated_bytes(one, BATCH) for one in found)
    last = [Convolution.parse(one.signature.replace('"channels_last":false', '"channels_last":true')) for one in found]
    assert {one.channels_last for one in last} == {True}
    assert not any(estimated_bytes(one, BATCH) for one in last)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_a_slice_of_images_has_their_memory_format(kernel: int, memory_format: torch.memory_format) -> None:
    images = torch.empty(4, 64, 9, 9).contiguous(memory_format=memory_format)[:, :32]
    weight = torch.empty(32, 32, kernel, kernel).contiguous(memory_format=memory_format)
    how = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    found = Convolution.of(torch.ops.aten.convolution.default, (images, weight, *how))
    assert found is not None
    assert found.channels_last == (memory_format == torch.channels_last)


def test_the_workspace_is_allocated_beside_the_output() -> None:
    """As `cudnn_convolution` does: empty_cuda of the output, then the kernel with its workspace."""
    recording = family("resnet18").recording
    first = next(number for number, one in enumerate(recording.storages) if one.category == WORKSPACE)
    before = recording.events[recording.events.index(first) - 1]
    assert recording.storages[before].operation == "aten::convolution"
    assert recording.storages[before].bytes == BATCH * 64 * 32 * 32 * 4
    assert recording.events[recording.events.index(first) + 1] == ~first


def test_an_estimated_workspace_takes_only_free_memory() -> None:
    layers = nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.AdaptiveAvgPool2d(1)
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 1000))
    training = Training((3, 64, 64), imagenet_task(), sgd, channels_last=False)
    model = BatchSizeModel(record(network, training, 2), record(network, training, 4))
    none = {signature: {BATCH: 0} for signature in model.convolutions}
    limit = model.peak(BATCH, Allocator(), none).reserved_bytes
    # The gradient of the weights of the second convolution copies its input and the gradient of its output.
    copies = 2 * BATCH * 64 * 64 * 64 * 4
    assert model.peak(BATCH).allocated_bytes >= model.peak(BATCH, None, none).allocated_bytes + copies // 2
    assert model.peak(BATCH).reserved_bytes > limit
    assert model.fits(BATCH, Card(limit))
    assert model.peak(BATCH, Allocator(limit)).reserved_bytes <= limit
    # A measured one is required.
    measured = {signature: {BATCH: copies} for signature in model.convolutions}
    assert not model.fits(BATCH, Card(limit, workspaces=measured))


def test_tensors_in_another_memory_format_are_copied() -> None:
    """PyTorch's profiler shows the copies of real convolutions."""
    layer = nn.Conv2d(16, 32, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    maps = torch.zeros(2, 24, 10, 10).contiguous(memory_format=torch.channels_last)
    gradient = torch.zeros(2, 32, 10, 10)
    how = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    ahead, back = torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default
    for images in (maps[:, :16], maps[:, :16].contiguous(memory_format=torch.channels_last)):
        for func, args in (
            (ahead, (images, layer.weight, None, *how)),
            (back, (gradient, images, layer.weight, None, *how, [True, True, False])),
        ):
            with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
                func(*args)
            copies = sum(one.cpu_memory_usage for one in profiler.events() if one.name == "aten::empty_like")
            assert copies == copied_bytes(func, args)


def published(network: str, batch: int) -> Run:
    """Return a row of the part that no constant was fitted to."""
    return next(one for one in runs("peaks") if (one.network, one.batch, one.part) == (network, batch, "report"))


@pytest.mark.slow
def test_a_published_run_on_an_a100() -> None:
    run = published("legacy_xception", 128)
    assert run.used_mib is not None
    outside = run.origin.context_mib
    none = {signature: {run.batch: 0} for signature in run.model.convolutions}
    bare = run.model.peak(run.batch, Allocator(), none).reserved_bytes / 2**20 + outside
    assert bare < 0.9 * run.used_mib, "without workspaces, the prediction is more than 10 % too low"
    reserved = run.reserved_mib()
    assert reserved is not None
    assert reserved + outside == pytest.approx(run.used_mib, rel=0.025)
