"""Features: outputs of a layer of a trained network, for another classifier or a linear probe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convoy.config.compose import from_saved, overlay
from convoy.config.faults import Fault, UserError, one_line
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.data.data_module import ImageData
from convoy.evaluation.feature_layers import Tap, tap
from convoy.evaluation.run_evaluation import open_images
from convoy.evaluation.trained_run import Trained, load_trained, locate
from convoy.records.console import Console
from convoy.runs.layout import RunFolder, shown
from convoy.runtime.devices import Devices, choose, use_threads
from convoy.training.preflight import checked


@dataclass(frozen=True)
class FeatureRequest:
    """Layer of a run's network, and the images that it is applied to.

    Attributes:
        run: folder of a run, or latest.
        checkpoint: best, last, or a file.
        layer: see `feature_layers.tap`.
        output_root: folder in which latest is looked up.
        overrides: of data, trainer and hardware, on top of the run's config.
    """

    run: str
    checkpoint: str = "best"
    layer: str | None = None
    output_root: str = "outputs"
    overrides: Sequence[str] = ()


@dataclass(frozen=True)
class Source:
    """A trained network and the images that it is to look at.

    Attributes:
        run: the network's.
        trained: the network.
        config: the run's, with what was typed on top.
        devices: of which one is used.
        data: opened; its classes may be others than the network's.
        tap: where the features come from.
    """

    run: RunFolder
    trained: Trained
    config: Config
    devices: Devices
    data: ImageData
    tap: Tap

    @property
    def stem(self) -> str:
        """`fashion_mnist-fc7`: the data and the layer, for names of files."""
        return f"{self.config.data.name}-{self.tap.name}"


def open_source(request: FeatureRequest, options: Options | None = None) -> Source:
    """Return the run's network, and its data or another set, prepared as in training.

    Another set comes in the run's size, channels and normalization, unless they are among the overrides.

    Raises:
        UserError: no such run, checkpoint or layer, or data that can't be used.
    """
    run, checkpoint = locate(request.run, request.checkpoint, request.output_root)
    trained = load_trained(run, checkpoint)
    saved = from_saved(run.saved_config())
    saved.folder = saved.resume = None
    config = checked(overlay(saved, [*request.overrides, *_as_trained(trained, request.overrides)], options))
    devices = choose(config)
    use_threads(devices)
    found = tap(trained.network, request.layer, num_outputs=len(trained.facts.names))
    return Source(run, trained, config, devices, open_images(config), found)


def _as_trained(trained: Trained, overrides: Sequence[str]) -> Iterator[str]:
    """Yield overrides that give another data set the shape of the run's."""
    typed = {text.partition("=")[0] for text in overrides}
    if "data" in typed:
        data = trained.config.data
        for key in ("channels", "image_size", "mean", "std"):
            if f"data.{key}" not in typed:
                value = getattr(data, key)
                yield f"data.{key}={list(value)}" if isinstance(value, list | tuple) else f"data.{key}={value}"


def batches(source: Source, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Features [B, ...] in float32 and labels [B] of a split, not augmented and in its order; on the CPU.

    Raises:
        UserError: the data has no such split, or the network doesn't take its images.
    """
    if not source.data.sizes.get(split):
        there = ", ".join(name for name, count in source.data.sizes.items() if count)
        raise UserError(Fault("split", f"{source.config.data.name} has no such split", f"it has {there}", split))
    device = torch.device(source.devices.accelerator)
    network = source.trained.network.to(device).eval()
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(source.devices.precision)
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype=half, enabled=half is not None),
        source.tap.listening(network) as heard,
    ):
        for images, labels in source.data.evaluation_loader(split, device=device):
            _look(network, images, source)
            yield heard.pop().float().cpu(), labels.cpu()


def _look(network: nn.Module, images: Tensor, source: Source) -> None:
    try:
        network(images)
    except RuntimeError as error:
        size = "x".join(str(side) for side in images.shape[1:])
        rule = f"the network does not take its images of {size} ({one_line(error)})"
        remedy = f"leave out data.image_size and data.channels, which are then those of {shown(source.run.path)}"
        raise UserError(Fault("data", rule, remedy, source.config.data.name)) from error


def write_features(
    request: FeatureRequest, split: str, output_folder: Path | None, options: Options | None = None
) -> Path:
    """Write the features of a split: features.npy, labels.npy and what they are, features.json.

    Args:
        request: whose features.
        split: train (as it is, without augmentation), val or test.
        output_folder: the folder, which must not be there yet; None: features/<data>-<layer>-<split> in the run's.

    Returns:
        The folder.

    Raises:
        UserError: see `open_source` and `batches`, or the folder is there already. Nothing is written then.
    """
    terminal = Console()
    terminal.log_to(None)
    source = open_source(request, options)
    output = output_folder or source.run.path / "features" / f"{source.stem}-{split}"
    if output.exists():
        remedy = "remove it, or name another with output=<folder>"
        raise UserError(Fault("output", "exists already", remedy, shown(output)))
    partial = output.with_name(f".partial-{output.name}")
    try:
        shape = _write_arrays(source, split, partial)
        (partial / "features.json").write_text(json.dumps(_described(source, split, shape), indent=2) + "\n", "utf-8")
        partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    terminal.say(f"{source.trained.config.name}, {shown(source.trained.checkpoint)}, {source.tap.described}")
    terminal.say(f"{source.config.data.name}: {shape[0]:,} {split} images, features {' x '.join(map(str, shape[1:]))}")
    terminal.say(f"{shown(output)}/\n  features.npy  labels.npy  features.json")
    return output


def _write_arrays(source: Source, split: str, folder: Path) -> tuple[int, ...]:
    """Write batch by batch, since features of a large set don't fit in memory. Gives the shape of the features."""
    labels: list[Tensor] = []
    features: Any = None
    shape: tuple[int, ...] = ()
    done = 0
    for values, own in batches(source, split):
        if features is None:
            folder.mkdir(parents=True)
            shape = (source.data.sizes[split], *values.shape[1:])
            features = np.lib.format.open_memmap(folder / "features.npy", mode="w+", dtype=np.float32, shape=shape)
        features[done : done + len(values)] = values.numpy()
        labels.append(own)
        done += len(values)
    if done < shape[0]:  # images that can't be decoded were skipped
        features.flush()
        whole = np.lib.format.open_memmap(folder / "whole.npy", mode="w+", dtype=np.float32, shape=(done, *shape[1:]))
        whole[:] = features[:done]
        whole.flush()
        (folder / "whole.npy").replace(folder / "features.npy")
    else:
        features.flush()
    np.save(folder / "labels.npy", torch.cat(labels).numpy())
    return (done, *shape[1:])


def _described(source: Source, split: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "run": str(source.run.path),
        "checkpoint": str(source.trained.checkpoint),
        "layer": source.tap.name,
        "module": source.tap.module,
        "side": source.tap.side,
        "data": source.config.data.name,
        "split": split,
        "shape": list(shape),
        "classes": list(source.data.classes),
        "skipped_images": source.data.skipped_images,
    }
