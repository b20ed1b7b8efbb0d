"""Layers whose outputs are features, by the names that papers, ledgers and code use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.models.freezing import head_of

HEAD_INPUT = "penultimate"
_FULLY_CONNECTED = re.compile(r"fc([1-9]\d*)")
_FIRST_OF_THREE = 6  # AlexNet and VGG have five convolutional stages, and their papers count on from there.


@dataclass(frozen=True)
class Tap:
    """A place in a network.

    Attributes:
        name: as it was asked for.
        module: the module's name.
        side: whether what goes into it or what comes out of it is taken.
    """

    name: str
    module: str
    side: Literal["input", "output"]

    @property
    def described(self) -> str:
        """In words."""
        where = f"{self.side} of {self.module}"
        return where if self.name == self.module else f"{self.name} ({where})"

    @contextmanager
    def listening(self, network: nn.Module) -> Iterator[list[Tensor]]:
        """While it lasts, each forward pass appends what stood here, [B, ...], to the list.

        Raises:
            UserError: in the forward pass: what stands here is no tensor.
        """
        heard: list[Tensor] = []

        def keep(value: Any) -> None:
            value = value[0] if isinstance(value, tuple) and len(value) == 1 else value
            if not isinstance(value, Tensor):
                rule = f"gives {type(value).__name__}, not one tensor"
                raise UserError(Fault("layer", rule, "choose one of its parts", self.name))
            heard[:] = [value.clone()]  # the next layer may work in place

        module = network.get_submodule(self.module)
        handle = (
            module.register_forward_pre_hook(lambda _, values: keep(values))
            if self.side == "input"
            else module.register_forward_hook(lambda _, __, value: keep(value))
        )
        try:
            yield heard
        finally:
            handle.remove()


def tap(network: nn.Module, layer: str | None, num_outputs: int) -> Tap:
    """Find a layer.

    Args:
        network: with its head of `num_outputs`.
        layer: None or "penultimate", what the head gets; a module's name as the ledger shows it ("layer4",
            "features.30"), for its output; "fc1", "fc2", …, for a fully connected layer's output after its
            activation, which papers also count as fc6, fc7 and fc8 in networks with three of them.
        num_outputs: of the network.

    Raises:
        UserError: there is no such layer.
    """
    if layer in (None, HEAD_INPUT):
        return Tap(HEAD_INPUT, head_of(network, num_outputs), "input")
    assert layer is not None
    modules = [name for name, _ in network.named_modules() if name]
    if layer in modules:
        return Tap(layer, layer, "output")
    connected = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if match := _FULLY_CONNECTED.fullmatch(layer):
        index = int(match[1]) - 1
        if len(connected) == 3 and index >= _FIRST_OF_THREE - 1:
            index -= _FIRST_OF_THREE - 1
        if index + 1 < len(connected):
            return Tap(layer, connected[index + 1], "input")
        if index + 1 == len(connected):
            return Tap(layer, connected[index], "output")
    numbers = ", ".join(f"fc{number}" for number in range(1, len(connected) + 1))
    if len(connected) == 3:
        numbers += ", also called fc6, fc7, fc8"
    rule = f"the network has no such layer (of fully connected ones it has {numbers or 'none'})"
    remedy = did_you_mean(layer, modules, f"choose {HEAD_INPUT}, or a module that convoy ledger shows")
    raise UserError(Fault("layer", rule, remedy, layer))
