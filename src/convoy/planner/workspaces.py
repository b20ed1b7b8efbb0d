"""Estimated cuDNN workspaces of convolutions, for cards on which they were not measured.

cuDNN's kernels for tensor cores read images in the memory format channels_last. Images in the other format are copied
before the kernel reads them, and the copies are the workspace: the forward pass copies the input, and the gradient of
the weights copies the input and the gradient of the output. The weights are copied too. The gradient of the input
copies less than that of the weights, which follows it, and is therefore left out.

Without a workspace: images that are channels_last already or of one pixel, depthwise convolutions (ATen has kernels
for them, which take none), grouped convolutions, and convolutions with few channels. The limits of channels are those
with which the planner comes closest to the published runs of `benchmarks/published_memory.py` that are marked `fit`
(float32 on an A100 and an RTX 3060, 2026-11-29). For half precision, the same copies are assumed with 2 bytes per
value; no published run shows them. Cards before Ampere compute float32 without tensor cores; no published run shows
what they copy.

A workspace takes only free memory: where it can't be allocated, ATen chooses a kernel that needs less (`try_plans` in
aten/src/ATen/native/cudnn/Conv_v8.cpp catches the error).
"""

from __future__ import annotations

from math import prod

from convoy.planner.convolutions import FORWARD, Convolution

FEWEST_CHANNELS, FEWEST_CHANNELS_1X1 = 32, 64
"""Input and output channels from which a convolution is computed by a kernel that reads channels_last: of a kernel of
3x3 or larger, and of 1x1."""

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def estimated_bytes(convolution: Convolution, batch: int) -> int:
    """Return the estimated workspace of a convolution, or of the gradients of one, at a micro batch size."""
    if convolution.channels_last or convolution.groups > 1 or convolution.input_shape[1:] == (1, 1):
        return 0
    out_channels, in_channels, *kernel = convolution.weight_shape
    fewest = FEWEST_CHANNELS_1X1 if kernel == [1, 1] else FEWEST_CHANNELS
    if min(out_channels, in_channels) < fewest:
        return 0
    values = batch * prod(convolution.input_shape) + prod(convolution.weight_shape)
    if convolution.direction != FORWARD:
        values += batch * prod(convolution.output_shape)
    return values * _BYTES[convolution.dtype]
