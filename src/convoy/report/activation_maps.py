"""Class activation maps: the regions of an image that support the predicted class.

The map is HiResCAM's (Draelos & Carin 2020, arXiv:2011.08891, equation 6) at the last feature map with more than one
position: gradient times activation, summed over channels. Negative values are set to zero. If global average pooling
and one linear layer follow, the map equals the class activation map of Zhou et al. 2016 (arXiv:1512.04150, equation 2)
and Grad-CAM's (Selvaraju et al. 2017, arXiv:1610.02391) up to a factor. Grad-CAM averages the gradient over all
positions first, which loses the position if fully connected layers follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from convoy.config.faults import Fault, UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 8
_ROW_INCHES = 3.15
_LONGEST_NAME = 16


@dataclass(frozen=True)
class Example:
    """An image and a network's prediction for it.

    Attributes:
        image: the network's input, [C, S, S].
        label: index of the true class.
        predicted: index of the most probable class.
        probability: probability of the predicted class.
        heat: map of the predicted class, [S, S], 0 to 1.
    """

    image: Tensor
    label: int
    predicted: int
    probability: float
    heat: Tensor


def last_feature_map(network: nn.Module, image: Tensor) -> str:
    """Return the name of the module that returns the last feature map, [1, C, H, W] with more than one position.

    Args:
        network: in evaluation mode.
        image: [1, C, S, S].

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


def activation_maps(network: nn.Module, images: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Return the maps [B, H, W], 0 or more, of each image's most probable class, and probabilities [B, num_classes].

    Args:
        network: in evaluation mode.
        images: [B, C, S, S].
        layer: name of the module that returns the feature map [B, C, H, W].
    """
    kept: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        kept[:] = [value.detach().requires_grad_()]
        return kept[0].clone()  # the next layer may be in-place

    handle = network.get_submodule(layer).register_forward_hook(lambda _, __, value: keep(value))
    try:
        with torch.enable_grad():
            logits = network(images)
            best = logits.max(1).values.sum()
            (slopes,) = torch.autograd.grad(best, kept[0])
    finally:
        handle.remove()
    maps = functional.relu((slopes * kept[0].detach()).sum(1))
    return maps, logits.detach().softmax(1)


def examples(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], count: int, num_classes: int
) -> tuple[list[Example], str]:
    """Return examples of the first images of a split, of as many classes as possible, and the name of their layer.

    Args:
        network: in evaluation mode, on the CPU.
        batches: images [B, C, S, S] and labels [B].
        count: number of images.
        num_classes: number of classes of the data set.
    """
    chosen = _first_of_each_class(batches, count, num_classes)
    images = torch.stack([image for image, _ in chosen])
    layer = last_feature_map(network, images[:1])
    maps, probabilities = activation_maps(network, images, layer)
    heat = functional.interpolate(maps[:, None], size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    heat = heat / heat.flatten(1).amax(1).clamp_min(1e-12)[:, None, None]
    found = []
    for (image, label), row, one in zip(chosen, probabilities, heat, strict=True):
        predicted = int(row.argmax())
        found.append(Example(image, label, predicted, float(row[predicted]), one))
    return found, layer


def _first_of_each_class(
    batches: Iterable[tuple[Tensor, Tensor]], count: int, num_classes: int
) -> list[tuple[Tensor, int]]:
    """Return the first images of a split, in rounds of one image per class."""
    rounds = -(-count // num_classes)
    by_class: dict[int, list[Tensor]] = {}
    for images, labels in batches:
        for image, label in zip(images, labels.tolist(), strict=True):
            own = by_class.setdefault(label, [])
            if len(own) < rounds:
                own.append(image.clone())
        if len(by_class) == num_classes and all(len(own) == rounds for own in by_class.values()):
            break
    in_turn = [
        (by_class[label][turn], label)
        for turn in range(rounds)
        for label in sorted(by_class)
        if turn < len(by_class[label])
    ]
    return in_turn[:count]


def draw(
    found: Sequence[Example],
    classes: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    title: str,
    subtitle: str,
) -> Figure:
    """Draw each image above its copy with the map, with the true and the predicted class.

    Args:
        found: at least one example.
        classes: names of the classes.
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
        label, predicted = _short(classes[example.label]), _short(classes[example.predicted])
        right = example.label == example.predicted
        below = top - 2 * size[1] - 0.18 / height
        middle = left + size[0] / 2
        figure.text(middle, below, label, fontsize=8, ha="center", va="center")
        caption = f"{'' if right else predicted + ' '}{example.probability:.0%}"
        colour = "#00724f" if right else "#b03a00"
        figure.text(middle, below - 0.17 / height, caption, fontsize=8, ha="center", va="center", color=colour)
    return figure


def _as_pixels(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Any:
    """Return a normalized image as pixels, [S, S, 3] or [S, S], 0 to 1."""
    back = image * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
    back = back.clamp(0, 1)
    return back[0].numpy() if len(back) == 1 else back.permute(1, 2, 0).numpy()


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
