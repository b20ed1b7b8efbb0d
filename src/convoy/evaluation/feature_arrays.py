"""Features: outputs of a layer of a trained network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.evaluation.feature_layers import Tap, tap
from convoy.evaluation.trained_run import RunData, TrainedRun
from convoy.records.console import Console
from convoy.runs.layout import shown


@dataclass(frozen=True)
class Source:
    """Layer of a trained network, and its input images.

    Attributes:
        run: the trained network.
        data: the run's data or another set; its targets may differ from the network's.
        tap: source of the features in the network.
    """

    run: TrainedRun
    data: RunData
    tap: Tap

    @classmethod
    def open(
        cls, run: TrainedRun, layer: str | None, overrides: Sequence[str] = (), options: Options | None = None
    ) -> Source:
        """Open data for a run and find a layer.

        Args:
            run: the trained network.
            layer: see `feature_layers.tap`.
            overrides: overrides of the run's config.
            options: folders of the options.

        Raises:
            UserError: if there is no such layer, or the data can't be used.
        """
        found = tap(run.network, layer, num_outputs=run.task.num_outputs)
        return cls(run, run.open_data(overrides, options), found)

    @property
    def stem(self) -> str:
        """Names of the data and the layer for file names, such as `fashion_mnist-fc7`."""
        return f"{self.data.name}-{self.tap.name}"

    @property
    def title(self) -> str:
        """Run, checkpoint and layer, for the first line of a result."""
        return f"{self.run.title}, {self.tap.described}"

    def batches(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield features [B, ...] in float32 and targets [B, ...] of a split in order, not augmented, on the CPU.

        Raises:
            UserError: if the data has no such split, or the network doesn't call the layer, such as an nn.ModuleList.
        """
        self.data.check_split(split)
        network = self.run.network.to(self.data.device)
        with torch.inference_mode(), self.data.autocast(), self.tap.listening(network) as heard:
            for images, targets in self.data.batches(split):
                network(images)
                if not heard:
                    rule = "is not called by the network itself"
                    raise UserError(Fault("layer", rule, "choose one of its submodules", self.tap.name))
                yield heard.pop().float().cpu(), targets.cpu()


def write_features(source: Source, split: str, output_folder: Path | None) -> Path:
    """Write the features of a split to features.npy and targets.npy, described in features.json.

    Args:
        source: layer and images.
        split: train (without augmentation), val or test.
        output_folder: the folder, which must not exist; None for features/<data>-<layer>-<split> in the run's folder.

    Returns:
        The folder.

    Raises:
        UserError: if the data has no such split, the folder exists, or the features of two images differ in size.
            Nothing is written in this case.
    """
    terminal = Console()
    terminal.log_to(None)
    output = output_folder or source.run.folder / "features" / f"{source.stem}-{split}"
    if output.exists():
        remedy = "remove it, or choose another with output=<folder>"
        raise UserError(Fault("output", "exists already", remedy, shown(output)))
    partial, made_folder = output.with_name(f".partial-{output.name}"), not output.parent.exists()
    try:
        shape = _write_arrays(source, split, partial)
        (partial / "features.json").write_text(json.dumps(_described(source, split, shape), indent=2) + "\n", "utf-8")
        partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if made_folder and output.parent.exists() and not any(output.parent.iterdir()):
            output.parent.rmdir()
    terminal.say(source.title)
    terminal.say(f"{source.data.name}: {shape[0]:,} {split} images, features {' x '.join(map(str, shape[1:]))}")
    terminal.say(f"{shown(output)}/\n  features.npy  targets.npy  features.json")
    return output


def _write_arrays(source: Source, split: str, folder: Path) -> tuple[int, ...]:
    """Write the features batch by batch, since they may not fit in memory, and return their shape."""
    all_targets: list[Tensor] = []
    features: Any = None
    shape: tuple[int, ...] = ()
    done = 0
    for values, targets in source.batches(split):
        if features is None:
            folder.mkdir(parents=True)
            shape = (source.data.images.sizes[split], *values.shape[1:])
            features = np.lib.format.open_memmap(folder / "features.npy", mode="w+", dtype=np.float32, shape=shape)
        if values.shape[1:] != shape[1:]:
            sizes = " and ".join(" x ".join(map(str, size)) for size in (shape[1:], values.shape[1:]))
            rule = f"has features of {sizes}, as images keep their sizes; an array needs one size"
            raise UserError(Fault("layer", rule, "choose data whose images have one size", source.tap.name))
        features[done : done + len(values)] = values.numpy()
        all_targets.append(targets)
        done += len(values)
    if done < shape[0]:  # images that can't be decoded were skipped
        features.flush()
        whole = np.lib.format.open_memmap(folder / "whole.npy", mode="w+", dtype=np.float32, shape=(done, *shape[1:]))
        whole[:] = features[:done]
        whole.flush()
        (folder / "whole.npy").replace(folder / "features.npy")
    else:
        features.flush()
    np.save(folder / "targets.npy", torch.cat(all_targets).numpy())
    return (done, *shape[1:])


def _described(source: Source, split: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "run": str(source.run.folder),
        "checkpoint": str(source.run.checkpoint),
        "layer": source.tap.name,
        "module": source.tap.module,
        "side": source.tap.side,
        "data": source.data.name,
        "split": split,
        "shape": list(shape),
        "targets": {"kind": source.data.images.targets.kind, "names": list(source.data.images.targets.names)},
        "skipped_images": source.data.images.skipped_images,
    }
