"""Test-time augmentation: the mean of a network's predictions over several views of each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.config.image_size import LARGEST_SIDE, ImageSize, Sides, sides_of
from convoy.data.targets import LOCATED_KINDS
from convoy.models.building.sizes import takes_image_size
from convoy.tasks.task import Task

_FLIP = "flip"
_USUAL_RATIO = 8 / 7
"""Side of the image from which crops are taken, over that of the crop: 256 / 224."""
_LISTS = {"none": "1", _FLIP: f"1,{_FLIP}", "multiscale": f"{6 / 7},1,{_USUAL_RATIO},{_FLIP}"}
"""Lists of views with a name."""


@dataclass(frozen=True)
class Views:
    """Views of the images of a batch.

    Attributes:
        image_size: size of the images that the views are taken from.
        functions: each returns a view [B, C, H', W'] of images of this size, [B, C, H, W].
        mirrored: whether each view is a mirror image.
    """

    image_size: ImageSize
    functions: Sequence[Callable[[Tensor], Tensor]]
    mirrored: Sequence[bool] = (False,)


def views_of(tta: str, data: DataConfig) -> Views:
    """Return the views of a kind or a list, for a network that was trained on images of data.image_size.

    Outputs with positions in the image are compared with targets of data.image_size, so their images have it too.

    - flip: the image and its mirror image.
    - tencrop: crops of the four corners and the center, of the image and of its mirror image (Krizhevsky et al. 2012,
      section 4.1), from the center of an image that is resized to data.eval_resize, or to 8/7 of the crop.
    - multiscale: the image at 6/7, 1 and 8/7 of its sides, and the mirror images (Simonyan & Zisserman 2014, section
      3.2, with the mean over three sizes of one crop instead of a dense evaluation).
    - a list such as "0.75,1,1.25,flip": the image at these multiples of its sides, and with flip the mirror images.

    Raises:
        UserError: if a list has other items.
    """
    size = sides_of(data.image_size)
    if tta != "tencrop":
        sizes, is_flipped = _listed(tta, size)
        functions = [_resized(one) for one in sizes]
        views = [*functions, *(_after(one, _mirrored) for one in functions if is_flipped)]
        shown = size if data.target in LOCATED_KINDS else max(sizes)
        return Views(shown.value, views, [place >= len(sizes) for place in range(len(views))])
    larger = size.with_shorter(max(data.eval_resize or 0, round(size.shorter * _USUAL_RATIO)))
    down, across = larger.height - size.height, larger.width - size.width
    corners = [(0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2)]
    crops = [_crop(top, left, size) for top, left in corners]
    return Views(larger.value, [*crops, *(_after(_mirrored, one) for one in crops)], (False,) * 5 + (True,) * 5)


def _listed(tta: str, size: Sides) -> tuple[list[Sides], bool]:
    """Return the sizes of a list, and whether it has mirror images.

    Raises:
        UserError: if an item is neither flip nor a factor, the image would have no pixel or too many, or there is no
            factor.
    """
    texts = _LISTS.get(tta, tta).split(",")
    sizes = []
    for text in texts:
        if text == _FLIP and len(texts) > 1:
            continue
        try:
            shorter = size.shorter * float(text)
        except ValueError:
            shorter = 0.0
        if not 0.5 < shorter <= LARGEST_SIDE:
            rule = "is neither a multiple of the image's sides nor flip"
            raise UserError(Fault("tta", rule, "write a list such as [0.75,1,1.25,flip]", text))
        sizes.append(size.with_shorter(round(shorter)))
    if not sizes:
        raise UserError(Fault("tta", "has no multiple of the image's sides", f"write [1,{_FLIP}]", tta))
    return sizes, _FLIP in texts


def check_views(tta: str, network: nn.Module, task: Task, data: DataConfig) -> None:
    """Raise if a task can't average the views, or a network does not take all of their sizes.

    Raises:
        UserError: if its fully connected layers, for example, need one size.
    """
    size = sides_of(data.image_size)
    sizes, is_flipped = ([], False) if tta == "tencrop" else _listed(tta, size)
    others = sorted(set(sizes) - {size})
    needed = "tencrop" if tta == "tencrop" else "multiscale" if others else _FLIP if is_flipped else None
    if needed not in (None, *task.views):
        rule = f"the outputs of {data.target} targets can't be averaged over these views"
        remedy = f"use {' or '.join(f'tta={one}' for one in task.views)}" if task.views else "omit it"
        raise UserError(Fault("tta", rule, remedy, tta))
    for one in others:
        if not takes_image_size(network, data.channels, one):
            rule = f"the network does not take images of {one}"
            raise UserError(Fault("tta", rule, "use tta=tencrop or tta=flip", tta))


class ViewAverage(nn.Module):
    """Network whose outputs are the mean over several views of its input.

    Args:
        network: trained network.
        task: task of the network, which says what is averaged.
        views: views of the images.
    """

    def __init__(self, network: nn.Module, task: Task, views: Views) -> None:
        super().__init__()
        self.network = network
        self._task = task
        self._views = views

    def forward(self, images: Tensor) -> Any:
        """Return the averaged outputs for images [B, C, H, W]."""
        total = sum(
            self._task.restored(
                self._task.to_average(self._task.outputs(self.network, view(images))), images, is_mirrored=is_mirrored
            )
            for view, is_mirrored in zip(self._views.functions, self._views.mirrored, strict=True)
        )
        assert isinstance(total, Tensor)
        return self._task.from_average(total / len(self._views.functions))


def _mirrored(images: Tensor) -> Tensor:
    return images.flip(-1)


def _crop(top: int, left: int, size: Sides) -> Callable[[Tensor], Tensor]:
    return lambda images: images[:, :, top : top + size.height, left : left + size.width]


def _resized(size: Sides) -> Callable[[Tensor], Tensor]:
    def resize(images: Tensor) -> Tensor:
        if size == tuple(images.shape[2:]):
            return images
        return functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)

    return resize


def _after(first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda images: second(first(images))
