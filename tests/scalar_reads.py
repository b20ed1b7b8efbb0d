"""Counter of reads of scalar tensors, for which the CPU waits if the tensor lies on a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class ScalarReads(TorchDispatchMode):
    """Context in which reads such as `item()`, `bool()` and `float()` of tensors are counted.

    Attributes:
        count: number of reads.
    """

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))
