"""Peak memory predicted by the planner, compared with PyTorch's allocation events of real steps on the CPU.

    python -m benchmarks.planner_accuracy [model ...]

Each model runs three steps with a batch of 16 images of 128 pixels, in float32 and in bfloat16. torch.profiler records
the events. The prediction is for the CPU, which has no caching allocator.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD, Optimizer
from torch.profiler import ProfilerActivity, profile

from benchmarks.results import Goal, Result

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


def measured_peak_bytes(network: nn.Module, optimizer_of: Callable[[nn.Module], Optimizer], precision: str) -> int:
    """Return the peak bytes that PyTorch's CPU allocator handed out in three steps, including the parameters."""
    network.train()
    optimizer = optimizer_of(network)
    before = sum(tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *network.buffers()))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(3):
            pixels = torch.zeros(BATCH, 3, SIDE, SIDE, dtype=torch.uint8)
            images, labels = pixels.float(), torch.zeros(BATCH, dtype=torch.int64)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision != "32", cache_enabled=False):
                loss = functional.cross_entropy(network(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            del pixels, images, labels, loss
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    current = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    return before + peak


def sgd(network: nn.Module) -> Optimizer:
    """Return the optimizer of all measurements."""
    return SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, foreach=True)


def predicted_peak_bytes(name: str, precision: str) -> int:
    """Return the planner's prediction for a torchvision model in the same training."""
    import torchvision

    from convoy.ledger.skeleton import without_weights
    from convoy.planner.allocator import Heap
    from convoy.planner.peak_memory import BatchSizeModel
    from convoy.planner.traced_training import Training, record

    skeleton = without_weights(getattr(torchvision.models, name))
    training = Training((3, SIDE, SIDE), imagenet_task(), sgd, precision, on_cuda=False, channels_last=False)
    family = BatchSizeModel(record(skeleton, training, BATCH // 2), record(skeleton, training, BATCH))
    return family.peak(BATCH, Heap()).allocated_bytes


def imagenet_task() -> Any:
    """Return the classification task with 1,000 classes and cross entropy."""
    from convoy.data.targets import Targets
    from convoy.tasks.classification import Classification
    from convoy.tasks.losses import ConfiguredLoss

    loss = ConfiguredLoss({"_target_": "torch.nn.CrossEntropyLoss"})
    return Classification(Targets.unnamed("class_index", 1000), loss)


def main(names: Sequence[str] = ()) -> list[Result]:
    """Print a line per model and precision, and a summary of the errors."""
    import torchvision

    errors = []
    print(f"torch {torch.__version__}, batch {BATCH} of {SIDE} pixels, peak of three steps in MiB")
    for name in names or MODELS:
        for precision in PRECISIONS:
            predicted = predicted_peak_bytes(name, precision)
            network = getattr(torchvision.models, name)()
            measured = measured_peak_bytes(network, sgd, precision)
            errors.append(100 * (predicted / measured - 1))
            figures = f"predicted {predicted / 2**20:8.1f}  measured {measured / 2**20:8.1f}  {errors[-1]:+.2f} %"
            print(f"{name:20} {precision:10} {figures}", flush=True)
    sizes = [abs(error) for error in errors]
    result = Result("peak memory", "predicted", "allocated", sizes, goal=Goal(1.0, at_least=False), unit="% off")
    print(result.line())
    return [result]


if __name__ == "__main__":
    main(sys.argv[1:])
