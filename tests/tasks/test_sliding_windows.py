"""Tests of evaluation by windows against a loop over pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from convoy.config.faults import UserError
from convoy.config.image_size import Sides
from convoy.data.targets import MASK, Targets
from convoy.tasks.losses import ConfiguredLoss
from convoy.tasks.segmentation import Segmentation
from convoy.tasks.sliding_windows import by_windows


class Position(nn.Module):
    """Network that returns the sum of its window at each pixel, which depends on the window."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, int]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append((images.shape[2], images.shape[3]))
        return images + images.sum((2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("size", "window", "overlap"), [((11, 17), (4, 6), 0.5), ((8, 8), (4, 4), 0.0), ((5, 9), (8, 4), 0.25)]
)
def test_overlapping_windows_are_averaged(size: tuple[int, int], window: tuple[int, int], overlap: float) -> None:
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    network = Position()
    found = by_windows(network, images, Sides(*window), overlap)
    tall, wide = min(window[0], size[0]), min(window[1], size[1])
    assert set(network.sizes) == {(tall, wide)}

    def starts(length: int, side: int) -> list[int]:
        step = max(1, round(side * (1 - overlap)))
        return sorted({min(begin, length - side) for begin in range(0, length - side + step, step)})

    corners = [(top, left) for top in starts(size[0], tall) for left in starts(size[1], wide)]
    assert len(network.sizes) == len(corners)
    for row in range(size[0]):
        for column in range(size[1]):
            parts = [
                images[:, :, row, column] + images[:, :, top : top + tall, left : left + wide].sum((2, 3))
                for top, left in corners
                if top <= row < top + tall and left <= column < left + wide
            ]
            assert parts
            torch.testing.assert_close(found[:, :, row, column], torch.stack(parts).mean(0), atol=1e-4, rtol=1e-4)


def test_a_network_of_single_pixels_does_not_notice_windows() -> None:
    network = nn.Conv2d(3, 5, 1).eval()
    images = torch.randn(1, 3, 33, 47)
    loss = ConfiguredLoss({"_target_": "torch.nn.CrossEntropyLoss", "ignore_index": 255})
    task = Segmentation(Targets.unnamed(MASK, 5), loss, window=[16, 20])
    with torch.inference_mode():
        torch.testing.assert_close(task.outputs(network, images), network(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("changes", "key"), [({"window": "big"}, "task.window"), ({"window_overlap": 1}, "overlap")])
def test_faults_of_windows(changes: dict[str, object], key: str) -> None:
    loss = ConfiguredLoss({"_target_": "torch.nn.CrossEntropyLoss"})
    with pytest.raises(UserError, match=key):
        Segmentation(Targets.unnamed(MASK, 5), loss, **changes)  # type: ignore[arg-type]
