"""Activation maps: the regions of an image that support the prediction.

The map is HiResCAM's (Draelos & Carin 2020, arXiv:2011.08891, equation 6) at the last feature map with more than one
position: gradient times activation, summed over channels. Negative values are set to zero. If global average pooling
and one linear layer follow, the map equals the class activation map of Zhou et al. 2016 (arXiv:1512.04150, equation 2)
and Grad-CAM's (Selvaraju et al. 2017, arXiv:1610.02391) up to a factor. Grad-CAM averages the gradient over all
positions first, which loses the position if fully connected layers follow.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from convoy.config.faults import Fault, UserError, printable
from convoy.tasks.task import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 8
_ROW_INCHES = 3.15
_LONGEST_NAME = 16
_COLORS = {True: "#00724f", False: "#b03a00", None: "#222222"}
"""Color of a prediction that is right, wrong, or neither."""


@dataclass(frozen=True)
class Example:
    """An image and a network's prediction for it.

    Attributes:
        image: the network's input, [C, H, W].
        target: the true target, for people.
        prediction: the first entry of the prediction: its name and value.
        is_right: whether the prediction decides as the target; None for a task without decisions.
        heat: map of the evidence for the prediction, [H, W], 0 to 1.
    """

    image: Tensor
    target: str
    prediction: tuple[str, str]
    is_right: bool | None
    heat: Tensor


def last_feature_map(network: nn.Module, image: Tensor) -> str:
    """Return the name of the module that returns the last feature map, [1, C, H, W] with more than one position.

    Args:
        network: in evaluation mode.
        image: [1, C, H, W].

    Raises:
        UserError: there is no such map.
    """
    names: list[str] = []

    def note(name: str, value: Any) -> None:
        if isinstance(value, Tensor) and value.dim() == 4 and value.shape[2] * value.shape[3] > 1:
            names.append(name)

    handles = [
        module.register_forward_hook(lambda _, __, value, name=name: note(name, value))
        for name, module in network.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    if not names:
        rule = "its network has no feature map with more than one position"
        raise UserError(Fault("run", rule, "choose a run of a convolutional network"))
    return names[-1]


def activation_maps(
    network: nn.Module, images: Tensor, layer: str, evidence: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the maps [B, H, W], 0 or more, of the evidence for each prediction, and the network's outputs.

    Args:
        network: in evaluation mode.
        images: [B, C, H, W].
        layer: name of the module that returns the feature map [B, C, H, W].
        evidence: returns the output per image that is explained, [B], such as the largest.
    """
    kept: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        kept[:] = [value.detach().requires_grad_()]
        return kept[0].clone()  # the next layer may be in-place

    handle = network.get_submodule(layer).register_forward_hook(lambda _, __, value: keep(value))
    try:
        with torch.enable_grad():
            outputs = network(images)
            (slopes,) = torch.autograd.grad(evidence(outputs).sum(), kept[0])
    finally:
        handle.remove()
    maps = functional.relu((slopes * kept[0].detach()).sum(1))
    return maps, outputs.detach()


def examples(
    network: nn.Module, task: Task, batches: Iterable[tuple[Tensor, Tensor]], count: int
) -> tuple[list[Example], str]:
    """Return examples of images of a split, of as many different targets as possible, and the name of their layer.

    Args:
        network: in evaluation mode, on the CPU.
        task: of the network.
        batches: images [B, C, H, W] and targets [B, ...].
        count: number of images.
    """
    chosen = _of_different_targets(task, batches, count)
    layer = last_feature_map(network, chosen[0][0][None])
    return [_example(network, task, layer, image, target) for image, target in chosen], layer


def _example(network: nn.Module, task: Task, layer: str, image: Tensor, target: Tensor) -> Example:
    """Return an image's example. Images are taken one by one, as their sizes may differ."""
    maps, outputs = activation_maps(network, image[None], layer, task.evidence)
    heat = functional.interpolate(maps[:, None], size=image.shape[1:], mode="bilinear", align_corners=False)[0, 0]
    decisions = task.decisions(outputs)
    is_right = None if decisions is None else bool((decisions[0] == target).all())
    rows = task.prediction_rows(task.predictions(outputs, 1)[0])
    prediction = rows[0] if rows else ("–", "")
    return Example(image, task.target_texts(target[None])[0], prediction, is_right, heat / heat.max().clamp_min(1e-12))


def _of_different_targets(
    task: Task, batches: Iterable[tuple[Tensor, Tensor]], count: int
) -> list[tuple[Tensor, Tensor]]:
    """Return images and their targets: the first image of each target, then the next ones in the order of the split."""
    by_text: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for images, targets in batches:
        for text, image, target in zip(task.target_texts(targets), images, targets, strict=True):
            own = by_text.setdefault(text, [])
            if len(own) < count:
                own.append((image.clone(), target.clone()))
        has_all_names = len(by_text) >= len(task.targets.names) and sum(map(len, by_text.values())) >= count
        if len(by_text) >= count or has_all_names:
            break
    turns = itertools.zip_longest(*by_text.values())
    return [pair for turn in turns for pair in turn if pair is not None][:count]


def draw(
    found: Sequence[Example],
    mean: Sequence[float],
    std: Sequence[float],
    title: str,
    subtitle: str,
) -> Figure:
    """Draw each image above its copy with the map, with its target and the prediction.

    Args:
        found: at least one example.
        mean: statistics with which the images were normalized.
        std: statistics with which the images were normalized.
        title: first line.
        subtitle: second line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(found) // _COLUMNS)
    columns = -(-len(found) // rows)
    figure = Figure(figsize=(max(1.35 * columns + 0.3, 6.0), _ROW_INCHES * rows + 0.8), dpi=130)
    FigureCanvasAgg(figure)
    height = figure.get_figheight()
    figure.text(0.15 / figure.get_figwidth(), 1 - 0.25 / height, title, fontsize=10.5, va="center")
    figure.text(0.15 / figure.get_figwidth(), 1 - 0.52 / height, subtitle, fontsize=8.5, va="center", color="#444444")
    for index, example in enumerate(found):
        row, column = divmod(index, columns)
        left = (0.15 + 1.35 * column) / figure.get_figwidth()
        top = 1 - (0.8 + _ROW_INCHES * row) / height
        size = 1.25 / figure.get_figwidth(), 1.25 / height
        pixels = _as_pixels(example.image, mean, std)
        plain = figure.add_axes((left, top - size[1], *size))
        plain.imshow(pixels, cmap="gray", vmin=0, vmax=1)
        heated = figure.add_axes((left, top - 2 * size[1] - 0.05 / height, *size))
        heated.imshow(pixels, cmap="gray", vmin=0, vmax=1)
        heated.imshow(example.heat.numpy(), cmap="inferno", vmin=0, vmax=1, alpha=0.6)
        for axes in (plain, heated):
            axes.set_axis_off()
        name, value = example.prediction
        below = top - 2 * size[1] - 0.18 / height
        middle = left + size[0] / 2
        figure.text(middle, below, _short(example.target), fontsize=8, ha="center", va="center")
        caption = value if example.is_right else f"{_short(name)} {value}".strip()
        figure.text(
            middle,
            below - 0.17 / height,
            caption,
            fontsize=8,
            ha="center",
            va="center",
            color=_COLORS[example.is_right],
        )
    return figure


def _as_pixels(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Any:
    """Return a normalized image as pixels, [H, W, 3] or [H, W], 0 to 1; other channels than RGB are averaged."""
    back = image * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
    back = back.clamp(0, 1)
    return back.permute(1, 2, 0).numpy() if len(back) == 3 else back.mean(0).numpy()


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
