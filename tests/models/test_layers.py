"""The layers that torch lacks, against torch's layers where they agree and against sums written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from convoy.models.layers import L2Pool2d, LocallyConnected2d, Maxout


def test_locally_connected_is_its_definition_written_out() -> None:
    torch.manual_seed(0)
    layer = LocallyConnected2d(2, 3, (3, 2), (5, 4), stride=(2, 1), padding=(1, 0)).double()
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    images = torch.randn(4, 2, 5, 4, dtype=torch.float64)
    padded = functional.pad(images, (0, 0, 1, 1))
    expected = torch.empty(4, 3, 3, 3, dtype=torch.float64)
    for row in range(3):
        for column in range(3):
            window = padded[:, :, 2 * row : 2 * row + 3, column : column + 2]
            place = row * 3 + column
            filters = layer.weight[place].reshape(2, 3, 2, 3)
            expected[:, :, row, column] = torch.einsum("ncij,cijo->no", window, filters) + layer.bias[place]
    torch.testing.assert_close(layer(images), expected)


def test_locally_connected_with_equal_weights_everywhere_is_a_convolution() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    layer = LocallyConnected2d(3, 4, (3, 3), (6, 6), padding=(1, 1))
    assert layer.bias is not None
    assert conv.bias is not None
    with torch.no_grad():
        layer.weight.copy_(conv.weight.reshape(4, 27).T.expand(36, 27, 4))
        layer.bias.copy_(conv.bias.expand(36, 1, 4))
    images = torch.randn(2, 3, 6, 6).to(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(images), conv(images))


def test_locally_connected_parameters_and_gradient() -> None:
    layer = LocallyConnected2d(3, 8, (3, 3), (10, 10), stride=(2, 2), bias=True)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 4 * 4 * (3 * 3 * 3 + 1) * 8
    assert LocallyConnected2d(3, 8, (3, 3), (10, 10), bias=False).bias is None
    small = LocallyConnected2d(2, 2, (2, 2), (3, 3)).double()
    assert torch.autograd.gradcheck(small, torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(("size", "stride"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((3, 1), (1, 2))])
def test_l2_pooling_has_the_values_of_lp_pooling(size: tuple[int, int], stride: tuple[int, int]) -> None:
    images = torch.randn(2, 3, 9, 9)
    expected = torch.nn.LPPool2d(2, size, stride)(images)
    torch.testing.assert_close(L2Pool2d(size, stride)(images), expected)


def test_l2_pooling_by_hand() -> None:
    image = torch.tensor([[[[3.0, 4.0], [0.0, 0.0]]]])
    assert L2Pool2d((2, 2), (2, 2))(image).item() == 5.0
    padded = L2Pool2d((2, 2), (2, 2), (1, 1))(image)
    assert padded.tolist() == [[[[3.0, 4.0], [pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6)]]]]


def test_l2_pooling_of_zeros_has_no_nan_gradient() -> None:
    image = torch.zeros(1, 1, 4, 4, requires_grad=True)
    L2Pool2d((2, 2), (2, 2))(image).sum().backward()
    assert torch.equal(image.grad, torch.zeros(1, 1, 4, 4))


def test_l2_pooling_does_not_overflow_in_half_precision() -> None:
    image = torch.full((1, 1, 2, 2), 1000.0, dtype=torch.float16)
    pooled = L2Pool2d((2, 2), (2, 2))(image)
    assert (pooled.dtype, pooled.item()) == (torch.float16, 2000.0)


def test_maxout_by_hand() -> None:
    vector = torch.tensor([[1.0, 5.0, -2.0, -3.0, 0.0, 7.0]])
    assert Maxout(2)(vector).tolist() == [[5.0, -2.0, 7.0]]
    assert Maxout(3)(vector).tolist() == [[5.0, 7.0]]
    images = torch.randn(2, 6, 3, 3).to(memory_format=torch.channels_last)
    assert torch.equal(Maxout(2)(images), torch.maximum(images[:, 0::2], images[:, 1::2]))
