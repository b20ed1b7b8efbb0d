"""Training speed at 224 pixels on a GPU, with one more part of the pipeline per arm.

    python -m benchmarks.gpu.training_speed
    python -m benchmarks.gpu.training_speed --models resnet50 --precisions bf16-mixed --batch 256 --rounds 7

For each network and precision, with and without torch.compile, these arms alternate in every round in one process:

    synthetic   bare loop over one fixed batch: the ceiling
    timm        the same loop with timm's network of that name
    memory      the same loop over a data set in the card's memory, augmented there
    folder      the same loop over JPEGs, decoded by threads
    convoy      Lightning module of `convoy train` over the data set in memory

All arms use the same optimizer, channels_last and autocast (float16 with a gradient scaler). Figures are images/s
(median over the rounds with range), MFU (forward and backward FLOPs of the ledger divided by the card's peak), and the
share of synthetic. With --device cpu the figures are meaningless; it only tests that the program runs.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytorch_lightning as pl
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.lightning_overhead import images_per_s_convoy
from benchmarks.photos import write_folder
from benchmarks.rounds import machine
from convoy.config.schema import Config
from convoy.data.data_module import ImageData
from convoy.ledger.build_ledger import build_ledger
from convoy.models.building.build import build_model
from convoy.optim.build_optimizer import build_optimizer
from convoy.optim.fusing import may_fuse
from convoy.training.preflight import read

WARMUP_STEPS = 2
CLASSES = 1000

PEAK_FLOPS = {
    "A100": 312e12,
    "A40": 149.7e12,
    "H100 80GB HBM3": 989.4e12,
    "H100 PCIe": 756e12,
    "H200": 989.4e12,
    "L40S": 362.05e12,
    "V100-SXM2": 125e12,
    "V100-PCIE": 112e12,
}
"""Dense FLOP/s of the tensor cores in float16 and, if supported, bfloat16. Source: NVIDIA's data sheets."""

Batch = tuple[Tensor, Tensor]


def main(words: Sequence[str] | None = None) -> dict[str, float]:
    """Print a table for each network, precision and compiler setting.

    Returns:
        Median images/s by network, precision, compiler setting and arm.
    """
    given = _parsed(words)
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device; --device cpu --size 64 --batch 8 tests that the program runs")
    card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    here = machine("torch", "timm", "pytorch-lightning")
    print(f"{card}; batch {given.batch}, {given.steps} steps per measurement; {here}")
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), max(2 * given.batch, given.batch * (given.steps + WARMUP_STEPS)))
        found: dict[str, float] = {}
        for model, precision, compiled in itertools.product(given.models, given.precisions, given.compile):
            arms = _compare(given, device, card, model, precision, compiled=compiled == "on", photos=Path(folder))
            title = f"{model} {precision}{' compiled' if compiled == 'on' else ''}"
            found |= {f"{title}, {arm}, images/s": rate for arm, rate in arms.items()}
    return found


def figures(device: str) -> Iterator[tuple[str, object]]:
    """Yield the images/s of ResNet-50 in bfloat16 for each arm; on a CPU, of ResNet-18 with 32 pixels."""
    if device == "cuda":
        words = "--models resnet50 --precisions bf16-mixed --batch 256 --rounds 3 --steps 10"
    else:
        words = "--models resnet18 --precisions 32 --batch 4 --rounds 1 --steps 2 --size 32"
    yield from main([*words.split(), "--compile", "off", "--device", device]).items()


def _parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "vgg16"])
    parser.add_argument("--precisions", nargs="+", default=["bf16-mixed", "16-mixed"])
    parser.add_argument("--compile", nargs="+", choices=["off", "on"], default=["off", "on"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    return parser.parse_args(words)


def _compare(
    given: argparse.Namespace,
    device: torch.device,
    card: str,
    model: str,
    precision: str,
    *,
    compiled: bool,
    photos: Path,
) -> dict[str, float]:
    """Print the table of one network, and return the median images/s of each arm."""
    common = [f"model={model}", f"trainer.precision={precision}", f"trainer.global_batch_size={given.batch}"]
    common += ["logger=csv", "optimizer=sgd", "trainer.gpus=" + ("1" if device.type == "cuda" else "0")]
    size = [f"data.image_size={given.size}", f"trainer.max_steps={given.steps + WARMUP_STEPS}"]
    memory = read([*common, *size, "data=digits", "data.channels=3"])
    folder = read([*common, *size, "data=image_folder", f"data.root={photos}", "data.eval_resize=null"])
    sets = {"memory": _opened(memory, given.batch), "folder": _opened(folder, given.batch)}
    pl.seed_everything(1, verbose=False)
    network = build_model(memory.model, num_classes=CLASSES, in_channels=3, image_size=given.size)
    flops = 2 * build_ledger(network, (3, given.size, given.size)).total("training_macs")
    network = network.to(device, memory_format=torch.channels_last)
    other = timm.create_model(model, num_classes=CLASSES).to(device, memory_format=torch.channels_last)
    fixed = next(iter(sets["memory"].training_loader(0, device=device)))
    if compiled:
        network.compile()
        other.compile()

    def bare(trained: nn.Module, batches: Callable[[], Iterable[Batch]]) -> Callable[[], float]:
        return lambda: _bare(trained, memory, batches(), given.steps, given.batch, device, precision)

    repeated = lambda: itertools.repeat(fixed, given.steps + WARMUP_STEPS)  # noqa: E731
    arms: dict[str, Callable[[], float]] = {
        "synthetic": bare(network, repeated),
        "timm": bare(other, repeated),
        "memory": bare(network, lambda: _batches(sets["memory"], given.steps + WARMUP_STEPS, device)),
        "folder": bare(network, lambda: _batches(sets["folder"], given.steps + WARMUP_STEPS, device)),
    }
    if not compiled:  # a copy of a compiled network is not compiled
        steps = min(given.steps, sets["memory"].steps_per_epoch(1))
        short = _opened(memory, given.batch, steps)
        arms["convoy"] = lambda: images_per_s_convoy(copy.deepcopy(network), memory, short, steps)
    print(f"\n{model}, {precision}, {'compiled' if compiled else 'not compiled'}")
    found = _rounds(arms, given.rounds)
    _print_table(found, flops, _peak(card))
    return {name: statistics.median(values) for name, values in found.items()}


def _opened(config: Config, batch: int, max_steps: int | None = None) -> ImageData:
    data = ImageData(
        config.data, seed=1, micro_batch_size=batch, accumulation=1, eval_batch_size=batch, max_steps=max_steps
    )
    data.open()
    return data


def _batches(data: ImageData, steps: int, device: torch.device) -> Iterator[Batch]:
    """Yield the batches of the first steps of a run, over several epochs if needed."""
    done = 0
    while done < steps:
        for batch in data.training_loader(done, device=device):
            yield batch
            done += 1
            if done == steps:
                return


def _bare(
    network: nn.Module,
    config: Config,
    batches: Iterable[Batch],
    steps: int,
    batch_size: int,
    device: torch.device,
    precision: str,
) -> float:
    """Return the images/s of a bare loop over all batches except the first `WARMUP_STEPS`."""
    fuse = may_fuse(device.type, precision, clips=False)
    optimizer = build_optimizer({**config.optimizer, "lr": 1e-4}, network, fuse=fuse)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "16-mixed")
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    network.train()
    began = 0.0
    for step, (images, labels) in enumerate(batches):
        if step == WARMUP_STEPS:
            _synchronize(device)
            began = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=half, enabled=half is not None):
            loss = functional.cross_entropy(network(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    _synchronize(device)
    return steps * batch_size / (time.perf_counter() - began)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _rounds(arms: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run each arm once without measuring, then all arms per round; return their figures."""
    for arm in arms.values():
        arm()
    found: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            found[name].append(arm())
    return found


def _peak(card: str) -> float | None:
    """Return the peak FLOP/s of a card, or None if it is not in the table."""
    return next((peak for name, peak in PEAK_FLOPS.items() if name in card), None)


def _print_table(found: dict[str, list[float]], flops: int, peak: float | None) -> None:
    print(f"{'':<10} {'images/s':>10} {'range':>19} {'MFU':>7} {'of synthetic':>13}")
    for name, values in found.items():
        median = statistics.median(values)
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        # timm's network may have a different number of MACs.
        share = "–" if peak is None or name == "timm" else f"{median * flops / peak:.1%}"
        of_ceiling = statistics.median(one / top for one, top in zip(values, found["synthetic"], strict=True))
        print(f"{name:<10} {median:>10,.0f} {spread:>19} {share:>7} {of_ceiling:>13.1%}")


if __name__ == "__main__":
    main()
