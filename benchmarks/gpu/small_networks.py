"""Steps/s of small networks at batch 128: eager, compiled, as a replayed CUDA graph, and by `convoy train`.

A replayed graph has no launches from Python, and is the limit; the goal of `convoy train` is 0.9 of it.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.lightning_overhead import images_per_s_convoy
from convoy.config.schema import Config
from convoy.data.data_module import ImageData
from convoy.models.building.build import build_model
from convoy.training.preflight import read

BATCH = 128
Step = Callable[[], None]


def figures(device: str) -> Iterator[tuple[str, object]]:
    """Yield the steps/s of LeNet-5, ResNet-20 and ResNet-56 in bfloat16 on 32-pixel images."""
    steps = 100 if device == "cuda" else 2
    for model in ("lenet5", "resnet20", "resnet56") if device == "cuda" else ("lenet5",):
        config = _config(model, device, steps)
        data = _opened(config)
        network = build_model(config.model, num_classes=10, in_channels=3, image_size=32)
        network = network.to(device, memory_format=torch.channels_last).train()
        batch = next(iter(data.training_loader(0, device=torch.device(device))))
        yield f"{model}, eager", _rate(_step_of(copy.deepcopy(network), batch, device), steps, device)
        if device == "cuda":
            yield f"{model}, graph", _rate(_graph_of(copy.deepcopy(network), batch, device), steps, device)
        yield f"{model}, convoy", _of_convoy(copy.deepcopy(network), config, steps)
        if device == "cuda" and model != "resnet56":
            compiled = copy.deepcopy(network)
            compiled.compile()
            began = time.perf_counter()
            step = _step_of(compiled, batch, device)
            step()
            torch.cuda.synchronize()
            yield f"{model}, first compiled step, s", time.perf_counter() - began
            yield f"{model}, compiled", _rate(step, steps, device)


def _config(model: str, device: str, steps: int) -> Config:
    words = [f"model={model}", "data=digits", "data.channels=3", "data.image_size=32", "logger=csv"]
    words += [f"trainer.global_batch_size={BATCH}", f"trainer.max_steps={steps}", "optimizer=sgd", "scheduler=constant"]
    return read([*words, f"trainer.gpus={1 if device == 'cuda' else 0}", "trainer.precision=bf16-mixed"])


def _opened(config: Config, max_steps: int | None = None) -> ImageData:
    data = ImageData(
        config.data, seed=1, micro_batch_size=BATCH, accumulation=1, eval_batch_size=BATCH, max_steps=max_steps
    )
    data.open()
    return data


def _of_convoy(network: nn.Module, config: Config, steps: int) -> float:
    """Return the steps/s of `convoy train`, over at most one epoch of the data."""
    steps = min(steps, _opened(config).steps_per_epoch(1))
    return images_per_s_convoy(network, config, _opened(config, steps), steps) / BATCH


def _step_of(network: nn.Module, batch: tuple[Tensor, Tensor], device: str, *, capturable: bool = False) -> Step:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=True)
    images, labels = batch

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, cache_enabled=not capturable):
            loss = functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=not capturable)

    return step


def _graph_of(network: nn.Module, batch: tuple[Tensor, Tensor], device: str) -> Step:
    """Return a whole step as a CUDA graph (docs.pytorch.org, "CUDA Graphs")."""
    step = _step_of(network, batch, device, capturable=True)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _rate(step: Step, steps: int, device: str) -> float:
    """Return steps/s, the better of two measurements."""
    rates = []
    for _ in itertools.repeat(None, 2):
        for _ in range(3):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        rates.append(steps / (time.perf_counter() - began))
    return max(rates)
