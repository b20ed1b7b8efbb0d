"""Errors of CUDA and its libraries that mean that the GPU's memory is full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

_NEARLY_FULL = 0.05
"""Share of a card's memory below which an ambiguous error counts. Workspaces of convolutions take a few percent."""


@dataclass(frozen=True)
class OutOfMemoryText:
    """Part of an error's message.

    Attributes:
        text: as the library writes it.
        library: that raises it.
        is_ambiguous: whether it has other causes too. It then counts only if the card is nearly full.
    """

    text: str
    library: str
    is_ambiguous: bool = False


TEXTS = (
    OutOfMemoryText("CUDA out of memory", "caching allocator"),
    OutOfMemoryText("CUDA error: out of memory", "CUDA runtime: context, pinned memory, graphs"),
    OutOfMemoryText("CUDA driver error: out of memory", "CUDA driver: expandable segments"),
    OutOfMemoryText("CUBLAS_STATUS_ALLOC_FAILED", "cuBLAS"),
    OutOfMemoryText("CUBLAS_STATUS_NOT_INITIALIZED", "cuBLAS", is_ambiguous=True),
    OutOfMemoryText("CUDNN_STATUS_ALLOC_FAILED", "cuDNN"),
    OutOfMemoryText("CUDNN_STATUS_NOT_SUPPORTED", "cuDNN", is_ambiguous=True),
    OutOfMemoryText("FIND was unable to find an engine", "cuDNN with benchmark", is_ambiguous=True),
    OutOfMemoryText("GET was unable to find an engine", "cuDNN", is_ambiguous=True),
    OutOfMemoryText("Failed to CUDA calloc", "NCCL"),
    OutOfMemoryText("Cuda failure 2 'out of memory'", "NCCL"),
)
"""Messages of full GPU memory. "DefaultCPUAllocator: can't allocate memory" is not among them: the machine's memory is
shared with data and other programs, and a smaller micro batch seldom frees what is missing."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one that it was raised from, means that the GPU's memory is full."""
    return any(_is_out_of_memory(each) for each in _causes(error))


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    found = [each for each in TEXTS if each.text in str(error)]
    return any(not each.is_ambiguous for each in found) or (bool(found) and _is_nearly_full())


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _is_nearly_full() -> bool:
    """Return whether little of the current card's memory is free; False if there is no card, or it does not answer."""
    if not torch.cuda.is_available():
        return False
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:
        return False
    return free < _NEARLY_FULL * total
