"""Tests of stratified splits."""

from __future__ import annotations

import pytest
import torch

from convoy.config.faults import UserError
from convoy.data.sampling.splits import stratified_split

LABELS = torch.tensor([0] * 1000 + [1] * 100 + [2] * 37 + [3])[
    torch.randperm(1138, generator=torch.Generator().manual_seed(1))
]


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_each_class_has_its_share_held_out(fraction: float) -> None:
    kept, held_out = stratified_split(LABELS, fraction)
    assert sorted(kept.tolist() + held_out.tolist()) == list(range(len(LABELS)))
    # One less where the class of a single image would have to give it.
    assert abs(len(held_out) - fraction * len(LABELS)) < 2
    for label, size in ((0, 1000), (1, 100), (2, 37)):
        assert abs(int((LABELS[held_out] == label).sum()) - fraction * size) < 1
    # The only image of its class stays in train.
    assert 3 in LABELS[kept]


def test_equal_classes_stay_equal() -> None:
    labels = torch.arange(60_000) % 10
    _, held_out = stratified_split(labels, 0.083333)
    assert torch.bincount(labels[held_out]).tolist() == [500] * 10


def test_held_out_samples_do_not_depend_on_their_position() -> None:
    _, held_out = stratified_split(torch.zeros(10_000, dtype=torch.int64), 0.2)
    # 2,000 of them, in ten blocks of 1,000: 200 each, within 4.5 standard deviations.
    assert (torch.bincount(held_out // 1000) - 200).abs().max() < 4.5 * 12.1


@pytest.mark.parametrize("fraction", [0.001, 0.0])
def test_a_split_without_images_is_refused(fraction: float) -> None:
    with pytest.raises(UserError, match=r"data.val_fraction=.*: holds out none of 20 images; write .*=0.05 or more"):
        stratified_split(torch.arange(20) % 2, fraction)
    assert len(stratified_split(torch.arange(20) % 2, 0.05)[1]) == 1


def test_classes_of_one_image_leave_nothing_to_hold_out() -> None:
    with pytest.raises(UserError, match=r"data.test_fraction=0.1: .*each class has only one .*add .* a test split"):
        stratified_split(torch.arange(20), 0.1, "data.test_fraction")
