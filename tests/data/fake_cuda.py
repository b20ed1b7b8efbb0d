"""A GPU without values: operations on it run on fake tensors and are counted, those on the CPU are real."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convoy.data.batches import device_copy

CUDA = torch.device("cuda", 0)
_WITHOUT_KERNEL = ("empty", "device", "detach", "alias", "is_pinned", "_pin_memory")


class FakeCuda(TorchDispatchMode):
    """Counter of what is done on the device: `synchronous` and `asynchronous` copies, `kernels`, `float64` results."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        leaves = tree_leaves((args, kwargs))
        name = func.overloadpacket.__name__
        on_device = any(isinstance(leaf, FakeTensor) for leaf in leaves)
        if not on_device and not any(isinstance(leaf, torch.device) and leaf.type == "cuda" for leaf in leaves):
            with unset_fake_temporarily():
                if name in ("is_pinned", "_pin_memory"):
                    return False if name == "is_pinned" else args[0].clone()
                return func(*args, **kwargs | ({"pin_memory": False} if kwargs.get("pin_memory") else {}))
        device = kwargs.get("device")
        if name == "_local_scalar_dense" or (on_device and device is not None and device.type == "cpu"):
            self.counts["synchronous"] += 1
        elif name in ("_to_copy", "copy_") and not on_device:
            self.counts["asynchronous" if kwargs.get("non_blocking") else "synchronous"] += 1
        elif not func.is_view and not name.startswith(_WITHOUT_KERNEL):
            self.counts["kernels"] += 1
        result = func(*args, **kwargs)
        self.counts["float64"] += isinstance(result, FakeTensor) and result.dtype == torch.float64
        return result


class FakeCopyStream(device_copy.CopyStream):
    """Stream whose copies end at once; the order of the calls is kept."""

    calls: list[str]

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.calls = []

    def copy(self, pinned: Tensor) -> tuple[Tensor, Any]:
        self.calls.append("copy")
        return pinned.to(self._device, non_blocking=True), FakeEvent()

    def hand_over(self, copied: Tensor, event: Any) -> None:
        self.calls.append("hand_over")


class FakeEvent:
    """Event that has occurred."""

    def synchronize(self) -> None:
        """Return at once."""


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """Yield the counter of a device that works in this thread."""
    monkeypatch.setattr("convoy.data.batches.decode_ahead.CopyStream", FakeCopyStream)
    monkeypatch.setattr("convoy.data.batches.memory_loader.fits", lambda *_: True)
    with FakeTensorMode(allow_non_fake_inputs=True), FakeCuda() as counter:
        yield counter
