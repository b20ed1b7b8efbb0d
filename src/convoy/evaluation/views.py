"""Test-time augmentation: the mean of a network's predictions over several views of each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.config.image_size import ImageSize, Sides, sides_of
from convoy.data.targets import LOCATED_KINDS
from convoy.models.sizes import takes_image_size
from convoy.tasks.task import Task

ViewsName = Literal["none", "flip", "tencrop", "multiscale"]

_USUAL_RATIO = 8 / 7
"""Side of the image from which crops are taken, over that of the crop: 256 / 224."""


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


def views_of(name: ViewsName, data: DataConfig) -> Views:
    """Return the views of a kind, for a network that was trained on images of data.image_size.

    Outputs with positions in the image are compared with targets of data.image_size, so their images have it too.

    - flip: the image and its mirror image.
    - tencrop: crops of the four corners and the center, of the image and of its mirror image (Krizhevsky et al. 2012,
      section 4.1), from the center of an image that is resized to data.eval_resize, or to 8/7 of the crop.
    - multiscale: the image at 6/7, 1 and 8/7 of its sides, and the mirror images (Simonyan & Zisserman 2014, section
      3.2, with the mean over three sizes of one crop instead of a dense evaluation).
    """
    size = sides_of(data.image_size)
    if name == "none":
        return Views(size.value, [_whole])
    if name == "flip":
        return Views(size.value, [_whole, _mirrored], (False, True))
    if name == "multiscale":
        smaller, larger = _scales(size)
        functions = [_resized(one) for one in (smaller, size, larger)]
        shown = size if data.target in LOCATED_KINDS else larger
        views = [*functions, *(_after(one, _mirrored) for one in functions)]
        return Views(shown.value, views, (False,) * 3 + (True,) * 3)
    larger = size.with_shorter(max(data.eval_resize or 0, round(size.shorter * _USUAL_RATIO)))
    down, across = larger.height - size.height, larger.width - size.width
    corners = [(0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2)]
    crops = [_crop(top, left, size) for top, left in corners]
    return Views(larger.value, [*crops, *(_after(_mirrored, one) for one in crops)], (False,) * 5 + (True,) * 5)


def _scales(size: Sides) -> tuple[Sides, Sides]:
    """Return the smaller and the larger size of `multiscale`."""
    return size.with_shorter(round(size.shorter * 6 / 7)), size.with_shorter(round(size.shorter * _USUAL_RATIO))


def check_views(name: ViewsName, network: nn.Module, task: Task, data: DataConfig) -> None:
    """Raise if a task can't average the views, or a network does not take all of their sizes.

    Raises:
        UserError: if its fully connected layers, for example, need one size.
    """
    if name not in ("none", *task.views):
        rule = f"the outputs of {data.target} targets can't be averaged over these views"
        remedy = f"use {' or '.join(f'tta={one}' for one in task.views)}" if task.views else "omit it"
        raise UserError(Fault("tta", rule, remedy, name))
    sizes = set(_scales(sides_of(data.image_size))) if name == "multiscale" else set()
    for size in sorted(sizes):
        if not takes_image_size(network, data.channels, size):
            rule = f"the network does not take images of {size}"
            raise UserError(Fault("tta", rule, "use tta=tencrop or tta=flip", name))


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


def _whole(images: Tensor) -> Tensor:
    return images


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
