"""Messages of CUDA, cuBLAS, cuDNN and NCCL that lead to a restart with half the micro batch."""

from __future__ import annotations

import pytest
import torch
from torch.distributed import DistBackendError  # type: ignore[attr-defined]

from convoy.training.out_of_memory_errors import TEXTS, is_out_of_memory

GIB = 2**30

MESSAGES = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15.77 GiB",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    "CUDA driver error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input.",
    "FIND was unable to find an engine to execute this computation",
    "GET was unable to find an engine to execute this computation",
    "NCCL error: unhandled cuda error\nLast error:\nFailed to CUDA calloc 10485760 bytes",
    "NCCL error: unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'",
)
"""One message per text of the table, in its order."""


def set_free_bytes(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 16 * GIB))


@pytest.mark.parametrize("kind", [RuntimeError, getattr(torch, "AcceleratorError", RuntimeError), DistBackendError])
@pytest.mark.parametrize(("number", "message"), enumerate(MESSAGES))
def test_each_message_counts_if_the_card_is_full(
    number: int, message: str, kind: type[RuntimeError], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TEXTS[number].text in message
    set_free_bytes(GIB // 4, monkeypatch)
    assert is_out_of_memory(kind(message))
    set_free_bytes(8 * GIB, monkeypatch)
    assert is_out_of_memory(kind(message)) == (not TEXTS[number].is_ambiguous)


def test_every_text_has_a_message() -> None:
    assert len(TEXTS) == len(MESSAGES)


def test_the_class_of_the_error_counts() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("Allocation on device"))


def test_an_error_counts_by_its_cause() -> None:
    error = ValueError("the backend compiler failed")
    error.__cause__ = RuntimeError("CUDA driver error: out of memory")
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape '[2]' is invalid for input of size 3"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes"),
        MemoryError(),
        KeyError("CUDA out of memory"),
        RuntimeError("GET was unable to find an engine to execute this computation"),  # no card answers here
    ],
)
def test_other_errors_do_not_count(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not is_out_of_memory(error)
