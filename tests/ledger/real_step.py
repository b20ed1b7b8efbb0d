"""What autograd keeps in a real step on the CPU, found without the ledger: by hooks on modules alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


class RealStep:
    """Runs a model on real tensors and charges each storage that autograd keeps to the module that made it.

    A storage is made by the first module in whose output it is seen; if it is seen as an input first, by the
    module that made the call; and if it is never passed between modules, by the one within which it was kept.

    Attributes:
        kept: bytes by module name; "" is the model itself, and its input.
    """

    def __init__(self, model: nn.Module, input_shape: Sequence[int], batch: int) -> None:
        self._names = {module: name for name, module in model.named_modules()}
        tensors = (*model.parameters(), *model.buffers())
        self._state = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self._maker: dict[int, str] = {}
        self._saver: dict[int, tuple[str, int]] = {}
        self._stack = [""]
        self._alive: list[Any] = []
        for module in model.modules():
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave)
        images = torch.randn(batch, *input_shape)
        self._made(images, "")
        with torch.autograd.graph.saved_tensors_hooks(self._save, lambda tensor: tensor):
            model.train()(images)
        self.kept: Counter[str] = Counter()
        for storage, (saver, size) in self._saver.items():
            self.kept[self._maker.get(storage, saver)] += size

    def _enter(self, module: nn.Module, arguments: Any) -> None:
        for tensor in tree_leaves(arguments):
            self._made(tensor, self._stack[-1])
        self._stack.append(self._names[module])

    def _leave(self, module: nn.Module, arguments: Any, result: Any) -> None:
        for tensor in tree_leaves(result):
            self._made(tensor, self._stack[-1])
        self._stack.pop()

    def _made(self, tensor: Any, by: str) -> None:
        if isinstance(tensor, Tensor) and tensor.numel():
            storage = tensor.untyped_storage()
            self._alive.append(storage)  # so that its address is not used again
            self._maker.setdefault(storage.data_ptr(), by)

    def _save(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in self._state:
            self._alive.append(storage)
            self._saver.setdefault(storage.data_ptr(), (self._stack[-1], storage.nbytes()))
        return tensor
