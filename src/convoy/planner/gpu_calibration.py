"""Measurement of a GPU for the planner: the CUDA context and the workspaces of convolutions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

import torch
from torch import Tensor

from convoy.planner.calibration import Calibration
from convoy.planner.convolutions import BACKWARD, FORWARD, Convolution

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Gpu(Protocol):
    """Interface of a GPU that can be measured; see `CudaGpu`."""

    name: str
    versions: dict[str, str]

    def total_bytes(self) -> int: ...

    def context_bytes(self) -> int: ...

    def workspace_bytes(self, convolution: Convolution, batch: int) -> int | None: ...


class CudaGpu:
    """Current CUDA device. No other process may use it during the measurement."""

    def __init__(self) -> None:
        self.name = torch.cuda.get_device_name()
        self.versions = {
            "torch": torch.__version__,
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        }
        torch.backends.cudnn.benchmark = True  # as in training

    def total_bytes(self) -> int:
        """Return the memory of the device that the driver reports."""
        return int(torch.cuda.mem_get_info()[1])

    def context_bytes(self) -> int:
        """Return the memory in use outside the caching allocator, after cuBLAS and cuDNN have been used."""
        for dtype in _DTYPES.values():
            if dtype is torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
                continue
            images = torch.zeros(8, 64, 32, 32, device="cuda", dtype=dtype, requires_grad=True)
            weight = torch.zeros(64, 64, 3, 3, device="cuda", dtype=dtype, requires_grad=True)
            flat = torch.conv2d(images, weight, padding=1).flatten(1)
            (flat @ torch.zeros(flat.shape[1], 8, device="cuda", dtype=dtype)).sum().backward()  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        return int(total - free - torch.cuda.memory_reserved())

    def workspace_bytes(self, convolution: Convolution, batch: int) -> int | None:
        """Return the workspace of a convolution after cuDNN has chosen an algorithm; None if out of memory."""
        try:
            images, weight = _tensors(convolution, batch)
            gradient = None if convolution.direction == FORWARD else _forward(convolution, images, weight)
            for _ in range(2):  # in the first call, cuDNN tries its algorithms
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                if gradient is None:
                    results = [_forward(convolution, images, weight)]
                else:
                    results = _backward(convolution, gradient, images, weight)
                own = sum(result.untyped_storage().nbytes() for result in results)
                taken = torch.cuda.max_memory_allocated() - before - own
                del results
            return max(0, int(taken))
        except torch.OutOfMemoryError:
            return None
        finally:
            torch.cuda.empty_cache()


def calibrate(gpu: Gpu, convolutions: Iterable[Convolution], batches: Sequence[int], seconds: float) -> Calibration:
    """Measure a GPU.

    Args:
        gpu: GPU to measure.
        convolutions: Convolutions whose workspaces are measured, as far as the time allows.
        batches: Micro batch sizes at which each workspace is measured.
        seconds: Time after which no further convolution is started.
    """
    end = time.monotonic() + seconds
    context, total = gpu.context_bytes(), gpu.total_bytes()
    workspaces: dict[str, dict[int, int]] = {}
    for convolution in convolutions:
        if time.monotonic() >= end:
            break
        found = {batch: gpu.workspace_bytes(convolution, batch) for batch in batches}
        workspaces[convolution.signature] = {batch: size for batch, size in found.items() if size is not None}
    now = f"{datetime.now().astimezone():%Y-%m-%d %H:%M}"
    return Calibration(gpu.name, now, gpu.versions, total, context, workspaces)


def _tensors(convolution: Convolution, batch: int) -> tuple[Tensor, Tensor]:
    layout = torch.channels_last if convolution.channels_last else torch.contiguous_format
    dtype = _DTYPES[convolution.dtype]
    images = torch.zeros(batch, *convolution.input_shape, device="cuda", dtype=dtype).contiguous(memory_format=layout)
    weight = torch.zeros(convolution.weight_shape, device="cuda", dtype=dtype).contiguous(memory_format=layout)
    return images, weight


def _forward(convolution: Convolution, images: Tensor, weight: Tensor) -> Tensor:
    result: Tensor = torch.ops.aten.convolution(
        images, weight, None, *_how(convolution), False, [0, 0], convolution.groups
    )
    return result


def _backward(convolution: Convolution, gradient: Tensor, images: Tensor, weight: Tensor) -> list[Tensor]:
    wanted = [convolution.direction == BACKWARD, True, False]
    found = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, *_how(convolution), False, [0, 0], convolution.groups, wanted
    )
    return [one for one in found if one is not None]


def _how(convolution: Convolution) -> tuple[list[int], list[int], list[int]]:
    return list(convolution.stride), list(convolution.padding), list(convolution.dilation)
