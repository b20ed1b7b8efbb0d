"""Memory predicted by the planner, compared with a real GPU: predictions are written to a file, then measured.

    python -m benchmarks.gpu.predicted_memory predict figures.json [model ...]
    python -m benchmarks.gpu.predicted_memory measure figures.json

`predict` needs no GPU. `measure` runs each case in a separate process, three steps with a fixed batch in the same order
of operations as Convoy's Lightning module (see `convoy.planner.traced_training`), and adds the counters of CUDA's
allocator. The summary has the errors of allocated and reserved memory. For `fits`, torch.cuda.
set_per_process_memory_fraction simulates a smaller card, on which the planned largest micro batch must run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from statistics import median, quantiles
from typing import Any

MODELS = (
    "resnet18",
    "resnet50",
    "vgg16",
    "densenet121",
    "mobilenet_v2",
    "efficientnet_b0",
    "squeezenet1_1",
    "convnext_tiny",
)
PRECISIONS, LAYOUTS, OPTIMIZERS, BATCHES = ("32", "bf16-mixed"), (False, True), ("sgd", "adamw"), (16, 32, 64)
SHARES_BYTES = (16 * 2**30, 40 * 2**30)
SIDE = 224


@dataclass(frozen=True)
class Case:
    """Training configuration to predict and measure."""

    model: str
    precision: str
    channels_last: bool
    optimizer: str
    batch: int


def cases(models: list[str]) -> list[Case]:
    """Return all cases of the models."""
    return [Case(*values) for values in product(models or MODELS, PRECISIONS, LAYOUTS, OPTIMIZERS, BATCHES)]


def figures(device: str) -> Iterator[tuple[str, object]]:
    """Yield predicted and measured MiB of 8 networks in bfloat16, and the error of allocated memory in percent.

    On a CPU, only two networks are predicted.
    """
    for model in MODELS if device == "cuda" else ("resnet18", "squeezenet1_1"):
        case = Case(model, "bf16-mixed", True, "sgd", 32)
        peak = _family(replace(case, batch=0)).peak(case.batch)
        yield f"{model}, predicted MiB", round(peak.allocated_bytes / 2**20, 1)
        if device == "cuda":
            measured = _measured(asdict(case))
            if "allocated" in measured:
                yield f"{model}, allocated, error in %", 100 * (peak.allocated_bytes / measured["allocated"] - 1)
                yield f"{model}, reserved, error in %", 100 * (peak.reserved_bytes / measured["reserved"] - 1)
            else:
                yield f"{model}, not measured", measured


def predict(path: Path, models: list[str]) -> None:
    """Write the predictions of all cases, and the largest micro batches on the simulated cards."""
    found = []
    for case in cases(models):
        family = _family(replace(case, batch=0))
        peak = family.peak(case.batch)
        found.append(asdict(case) | {"allocated": peak.allocated_bytes, "reserved": peak.reserved_bytes})
        print(f"{case}: {peak.allocated_bytes / 2**20:.0f} MiB allocated", flush=True)
    path.write_text(json.dumps({"cases": found, "fits": _largest(models)}, indent=1) + "\n")


def measure(path: Path) -> None:
    """Add the GPU's measurements to the file, case by case, and print the errors."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("this machine has no GPU that torch can use; run it with the same file on one that has")
    content = json.loads(path.read_text())
    for row in [*content["cases"], *content["fits"]]:
        if "measured" not in row:
            row["measured"] = _measured(row)
            path.write_text(json.dumps(content, indent=1) + "\n")
    _summarize(content)


def _measured(row: dict[str, Any]) -> dict[str, Any]:
    """Return CUDA's counters for a case that ran in a separate process, or the error."""
    program = [sys.executable, "-m", "benchmarks.gpu.predicted_memory", "step", json.dumps(row)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1:] or [json.dumps({"error": done.stderr.strip()[-300:]})]
    return dict(json.loads(last[0]))


def step(row: dict[str, Any]) -> None:
    """Run three steps of one case on the GPU in this process, and print CUDA's counters as JSON."""
    import torch
    import torchvision
    from torch.nn import functional

    case = Case(**{name: row[name] for name in Case.__dataclass_fields__})
    torch.backends.cudnn.benchmark = True
    if "limit" in row:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(row["limit"] / total)
    layout = torch.channels_last if case.channels_last else torch.contiguous_format
    network = getattr(torchvision.models, case.model)().cuda().to(memory_format=layout).train()
    optimizer = _optimizer(case.optimizer, network)
    try:
        for _ in range(3):
            pixels = torch.zeros(case.batch, 3, SIDE, SIDE, dtype=torch.uint8, device="cuda")
            images = pixels.to(torch.float32, memory_format=layout)
            labels = torch.zeros(case.batch, dtype=torch.int64, device="cuda")
            with torch.autocast("cuda", torch.bfloat16, enabled=case.precision != "32", cache_enabled=False):
                loss = functional.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            del pixels, images, labels, loss
        torch.cuda.synchronize()
    except torch.OutOfMemoryError:
        print(json.dumps({"out_of_memory": True}))
        return
    free, total = torch.cuda.mem_get_info()
    counters = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    print(json.dumps(counters | {"device": total - free, "card": torch.cuda.get_device_name()}))


def _optimizer(name: str, network: Any) -> Any:
    import torch

    if name == "sgd":
        return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    return torch.optim.AdamW(network.parameters(), lr=1e-3)


@cache
def _family(case: Case) -> Any:
    """Return the memory model of a case for any batch size; the batch size of the case is ignored."""
    import torch
    import torchvision

    from benchmarks.planner_accuracy import imagenet_task
    from convoy.ledger.skeleton import without_weights
    from convoy.planner.peak_memory import BatchSizeModel
    from convoy.planner.traced_training import Training, record

    network = without_weights(getattr(torchvision.models, case.model))
    if case.channels_last:
        network = network.to(memory_format=torch.channels_last)
    training = Training(
        (3, SIDE, SIDE),
        imagenet_task(),
        lambda model: _optimizer(case.optimizer, model),
        case.precision,
        channels_last=case.channels_last,
    )
    return BatchSizeModel(record(network, training, 8), record(network, training, 16))


def _largest(models: list[str]) -> list[dict[str, Any]]:
    from convoy.planner.peak_memory import Card

    found = []
    for name, limit in product(models or MODELS, SHARES_BYTES):
        case = Case(name, "bf16-mixed", True, "sgd", 0)
        largest = _family(case).largest(Card(limit))
        found.append(asdict(case) | {"batch": largest, "limit": limit})
    return found


def _summarize(content: dict[str, Any]) -> None:
    for name in ("allocated", "reserved"):
        errors = [
            abs(100 * (row[name] / row["measured"][name] - 1)) for row in content["cases"] if name in row["measured"]
        ]
        if len(errors) > 1:
            most = quantiles(errors, n=20)[18]
            print(f"{name}: {len(errors)} cases, median {median(errors):.2f} %, 95 % within {most:.2f} %")
    wrong = [row for row in content["fits"] if row["measured"].get("out_of_memory")]
    print(f"largest micro batches said to fit: {len(content['fits'])}, of which {len(wrong)} did not")
    for row in wrong:
        print(f"  {row['model']}, {row['batch']} in {row['limit'] / 2**30:.0f} GiB")


if __name__ == "__main__":
    verb, subject, *rest = sys.argv[1:]
    if verb == "predict":
        predict(Path(subject), rest)
    elif verb == "measure":
        measure(Path(subject))
    else:
        step(json.loads(subject))
