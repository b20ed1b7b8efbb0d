"""Layers of the notation that torch lacks: locally connected layer, L2 pooling and Maxout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from convoy.models.notation.tokens import Pair


class LocallyConnected2d(nn.Module):
    """Convolution with separate filters and biases for each position of the output.

    See Taigman et al. 2014 (DeepFace), section 2. The layer maps (N, C, H, W) to (N, O, H', W') with
    H' = floor((H + 2P - F) / S) + 1. It has H' W' (C F_h F_w + 1) O parameters and accepts only `input_size`.

    The positions are the batch dimension of a batched matrix product. Besides the parameters, the layer stores the
    patches of the input, N x C F_h F_w x H' W' values, for the backward pass.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: F_h and F_w.
        input_size: H and W.
        stride: S of height and width.
        padding: P of height and width, zeros per side.
        bias: add a bias per position and output channel.

    Attributes:
        weight: (H' W', C F_h F_w, O); the middle dimension is ordered by channel, row and column of the window.
        bias: (H' W', 1, O), or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        input_size: Pair,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.input_size = input_size
        self.stride = stride
        self.padding = padding
        rows, columns = (
            (side + 2 * pad - window) // step + 1
            for side, pad, window, step in zip(input_size, padding, kernel_size, stride, strict=True)
        )
        self.output_size = (rows, columns)
        places, patch = rows * columns, in_channels * kernel_size[0] * kernel_size[1]
        self.weight = nn.Parameter(torch.empty(places, patch, out_channels))
        self.bias = nn.Parameter(torch.zeros(places, 1, out_channels)) if bias else None
        nn.init.normal_(self.weight, std=patch**-0.5)

    def forward(self, images: Tensor) -> Tensor:
        patches = functional.unfold(images, self.kernel_size, padding=self.padding, stride=self.stride)
        by_place = patches.permute(2, 0, 1)
        if self.bias is None:
            outputs = torch.bmm(by_place, self.weight)
        else:
            outputs = torch.baddbmm(self.bias, by_place, self.weight)
        return outputs.permute(1, 2, 0).reshape(images.shape[0], self.out_channels, *self.output_size)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"input_size={self.input_size}, stride={self.stride}, padding={self.padding}, "
            f"bias={self.bias is not None}"
        )


class L2Pool2d(nn.Module):
    """L2 norm of each window, the root of its sum of squares: (N, C, H, W) to (N, C, H', W').

    The values equal those of `nn.LPPool2d(2, …)`, which has no padding and has a gradient of NaN on windows of
    zeros, which are frequent after ReLU. Here that gradient is zero. The squares are summed in float32, since 256
    squared is infinite in float16.
    """

    def __init__(self, kernel_size: Pair, stride: Pair, padding: Pair = (0, 0)) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding

    def forward(self, images: Tensor) -> Tensor:
        squares = images.float().square()
        sums = functional.avg_pool2d(squares, self.kernel_size, self.stride, self.padding, divisor_override=1)
        return sums.clamp_min(torch.finfo(torch.float32).tiny).sqrt().to(images.dtype)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class Maxout(nn.Module):
    """Maximum of each k = `filters_per_unit` neighbouring channels: (N, C, …) to (N, C / k, …).

    Goodfellow et al. 2013. Unit i is the maximum of channels i k to (i + 1) k - 1 of the preceding linear layer.
    """

    def __init__(self, filters_per_unit: int) -> None:
        super().__init__()
        self.filters_per_unit = filters_per_unit

    def forward(self, inputs: Tensor) -> Tensor:
        samples, _, *places = inputs.shape
        return inputs.reshape(samples, -1, self.filters_per_unit, *places).max(dim=2).values

    def extra_repr(self) -> str:
        return str(self.filters_per_unit)
