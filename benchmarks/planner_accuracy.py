"""Peak memory predicted by the planner, compared with PyTorch's allocation events of real steps on the CPU.

    python -m benchmarks.planner_accuracy [model ...]

Each classification network of torchvision runs three steps with a batch of 16 images of 128 pixels, in float32 and in
bfloat16; each option of `DENSE` runs three steps in float32 with the images of its overrides. torch.profiler records
the events. The prediction is for the CPU, which has no caching allocator.

oneDNN computes convolutions in its own memory formats, for which it reorders weights, and images that are not
channels_last. It allocates and frees these buffers within a convolution. Their sizes depend on the CPU and on the
number of threads, and a GPU has none of them: the options of `DENSE` are compared without them. The measured memory of
the classification networks contains them, since the planner models the largest one for images that are not
channels_last.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._C._profiler import _EventType
from torch.optim import SGD, Optimizer
from torch.profiler import ProfilerActivity, profile

from benchmarks.results import Goal, Result
from convoy.config.image_size import Sides, sides_of
from convoy.data.batches.collate import Batch
from convoy.ledger.autocast import DTYPES
from convoy.planner.allocator import Heap
from convoy.planner.peak_memory import BatchSizeModel
from convoy.planner.traced_training import Training, record
from convoy.tasks.task import Task, total_loss

MODELS = (
    "resnet18",
    "resnet50",
    "vgg11_bn",
    "densenet121",
    "mobilenet_v2",
    "efficientnet_b0",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
)
PRECISIONS = ("32", "bf16-mixed")
BATCH, SIDE = 16, 128

MASKS = ("data=camvid", "data.image_size=[96,128]")
IMAGES = ("data=super_resolution", "data.image_size=32")
ENLARGED = ("data=super_resolution", "data.image_size=48", "data.degradation.enlarge=true")
POINTS = ("data=keypoint_table", "data.image_size=[96,128]", "data.num_classes=17")
DENSE = {
    "unet": MASKS,
    "fcn8s": (*MASKS, "model.padding=1"),
    "segnet": MASKS,
    "deeplabv3_resnet50": MASKS,
    "lraspp_mobilenet_v3_large": MASKS,
    "srcnn": ENLARGED,
    "espcn": IMAGES,
    "fsrcnn": IMAGES,
    "vdsr": ENLARGED,
    "edsr_baseline": IMAGES,
    "simple_baseline": POINTS,
    "hrnet_w18_small": POINTS,
    "stacked_hourglass": POINTS,
}
"""Options of conf/model for segmentation, super-resolution and key points, with the overrides of their data."""
DENSE_BATCH = 4


@dataclass(frozen=True)
class Measured:
    """Peak of real steps on the CPU, with parameters and buffers.

    Attributes:
        allocated_bytes: Bytes that PyTorch's allocator had handed out.
        tensor_bytes: The same without oneDNN's buffers.
    """

    allocated_bytes: int
    tensor_bytes: int


def measured(network: nn.Module, training: Training, batch: int) -> Measured:
    """Return the peak of three real steps of a training on the CPU.

    A buffer of oneDNN is an allocation that a convolution makes itself, not through an ATen operation for tensors, and
    frees before it returns.
    """
    network.train()
    optimizer = training.optimizer(network)
    before = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(3):
            _step(network, optimizer, training, batch)
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = _allocations(profiler.profiler.kineto_results.experimental_event_tree())
    passing = _passing(events)
    peaks = []
    for left_out in (set(), passing):
        current = peak = 0
        for number, event in enumerate(events):
            if number not in left_out:
                current += event.extra_fields.alloc_size
                peak = max(peak, current)
        peaks.append(before + peak)
    return Measured(*peaks)


def predicted_bytes(network: nn.Module, training: Training, batch: int) -> int:
    """Return the planner's prediction of the peak for the same training."""
    model = BatchSizeModel(record(network, training, batch // 2), record(network, training, batch))
    return model.peak(batch, Heap()).allocated_bytes


def sgd(network: nn.Module) -> Optimizer:
    """Return the optimizer of all measurements."""
    return SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, foreach=True)


def imagenet_task() -> Task:
    """Return the classification task with 1,000 classes and cross entropy."""
    from convoy.data.targets import Targets
    from convoy.tasks.classification import Classification
    from convoy.tasks.losses import ConfiguredLoss

    loss = ConfiguredLoss({"_target_": "torch.nn.CrossEntropyLoss"})
    return Classification(Targets.unnamed("class_index", 1000), loss)


def classification(name: str, precision: str) -> tuple[nn.Module, Training]:
    """Return a network of torchvision and its training."""
    import torchvision

    network: nn.Module = getattr(torchvision.models, name)()
    shape = (3, SIDE, SIDE)
    return network, Training(shape, imagenet_task(), sgd, precision, on_cuda=False, channels_last=False)


def dense(name: str, *overrides: str, channels_last: bool = True) -> tuple[nn.Module, Training]:
    """Return the network of an option of `DENSE` and its training.

    Args:
        name: The option.
        *overrides: Further overrides.
        channels_last: Whether weights and images have this memory format.
    """
    from convoy.models.building.build import construct_model
    from convoy.planner.workload import model_sizes, task_of
    from convoy.training import preflight

    config = preflight.read([f"model={name}", *DENSE[name], *overrides, "logger=csv"], to_run=False)
    sizes, task = model_sizes(config), task_of(config)
    network = construct_model(config.model, **sizes)
    shape = (sizes["in_channels"], *sides_of(sizes["image_size"]))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    training = Training(shape, task, sgd, on_cuda=False, channels_last=channels_last)
    return network.to(memory_format=layout), training


def _step(network: nn.Module, optimizer: Optimizer, training: Training, batch: int) -> None:
    layout = torch.channels_last if training.channels_last else torch.contiguous_format
    pixels = torch.zeros(batch, *training.input_shape, dtype=torch.uint8)
    images = pixels.to(torch.float32, memory_format=layout)
    targets = training.task.example_targets(batch, Sides(*training.input_shape[1:]).value)
    kind = DTYPES.get(training.precision)
    with torch.autocast("cpu", kind, enabled=kind is not None, cache_enabled=False):
        losses = training.task.training_losses(network, Batch(images, targets))
    training.task.take_logged()
    total_loss(losses).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def _allocations(tree: Sequence[Any]) -> list[Any]:
    """Return the events of the allocator in the order of time; a free has a negative size."""
    found, waiting = [], list(tree)
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if event.tag == _EventType.Allocation:
            found.append(event)
    return sorted(found, key=lambda event: event.start_time_ns)


def _passing(events: Sequence[Any]) -> set[int]:
    """Return the positions of the events that allocate and free buffers of oneDNN."""
    found: set[int] = set()
    live: dict[int, int] = {}
    for number, event in enumerate(events):
        fields = event.extra_fields
        if fields.alloc_size > 0:
            live[fields.ptr] = number
            continue
        begin = live.pop(fields.ptr, None)
        if begin is None or event.parent is None or "convolution" not in event.parent.name:
            continue
        allocated_by = events[begin].parent
        if allocated_by is not None and allocated_by.id == event.parent.id:
            found |= {begin, number}
    return found


def main(names: Sequence[str] = ()) -> list[Result]:
    """Print a line per model and precision, and a summary of the errors."""
    cases = [(name, precision) for name in names or (*MODELS, *DENSE) for precision in PRECISIONS]
    errors = []
    print(f"torch {torch.__version__}, peak of three steps in MiB")
    for name, precision in cases:
        if name in DENSE and precision != PRECISIONS[0]:
            continue
        batch = DENSE_BATCH if name in DENSE else BATCH
        network, training = dense(name) if name in DENSE else classification(name, precision)
        predicted, found = predicted_bytes(network, training, batch), measured(network, training, batch)
        compared = found.tensor_bytes if name in DENSE else found.allocated_bytes
        errors.append(100 * (predicted / compared - 1))
        figures = f"predicted {predicted / 2**20:8.1f}  measured {compared / 2**20:8.1f}  {errors[-1]:+.2f} %"
        if name in DENSE:
            figures += f"  oneDNN adds {(found.allocated_bytes - compared) / 2**20:6.1f}"
        print(f"{name:26} {precision:10} {figures}", flush=True)
    sizes = [abs(error) for error in errors]
    result = Result("peak memory", "predicted", "allocated", sizes, goal=Goal(1.0, at_least=False), unit="% off")
    print(result.line())
    return [result]


if __name__ == "__main__":
    main(sys.argv[1:])
