"""Lookup of the layers that features are taken from, by the names used in papers, ledgers and code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.models.building.freezing import head_of

HEAD_INPUT = "penultimate"
_FULLY_CONNECTED = re.compile(r"fc([1-9]\d*)")
_FIRST_OF_THREE = 6  # fc6 follows the five convolutional stages of AlexNet and VGG.


@dataclass(frozen=True)
class Tap:
    """Input or output of a module.

    Attributes:
        name: name given by the user.
        module: name of the module.
        side: "input" or "output" of the module.
    """

    name: str
    module: str
    side: Literal["input", "output"]

    @property
    def described(self) -> str:
        """Description for messages, such as `fc7 (output of classifier.5)`."""
        where = f"{self.side} of {self.module}"
        return where if self.name == self.module else f"{self.name} ({where})"

    @contextmanager
    def listening(self, network: nn.Module) -> Iterator[list[Tensor]]:
        """Return a context in which each forward pass stores the tensor, [B, ...], in the list.

        Raises:
            UserError: in the forward pass, if the value is not a tensor.
        """
        heard: list[Tensor] = []

        def keep(value: Any) -> None:
            value = value[0] if isinstance(value, tuple) and len(value) == 1 else value
            if not isinstance(value, Tensor):
                rule = f"returns {type(value).__name__}, not one tensor"
                raise UserError(Fault("layer", rule, "choose one of its submodules", self.name))
            heard[:] = [value.clone()]  # the next layer may modify it in place

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
        network: network with a head of `num_outputs`.
        layer: None or "penultimate" for the input of the head; a module's name in the ledger ("layer4",
            "features.30") for its output; "fc1", "fc2", … for a fully connected layer's output after its activation.
            Networks with three such layers also accept fc6, fc7 and fc8, as in the papers on AlexNet and VGG.
        num_outputs: number of outputs of the network.

    Raises:
        UserError: if there is no such layer.
    """
    if layer in (None, HEAD_INPUT):
        try:
            return Tap(HEAD_INPUT, head_of(network, num_outputs), "input")
        except UserError as error:
            remedy = "name a module listed by convoy ledger"
            raise UserError(Fault("layer", error.faults[0].rule, remedy, HEAD_INPUT)) from error
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
    rule = f"the network has no such layer (its fully connected layers are {numbers or 'none'})"
    remedy = did_you_mean(layer, modules, f"choose {HEAD_INPUT}, or a module listed by convoy ledger")
    raise UserError(Fault("layer", rule, remedy, layer))
