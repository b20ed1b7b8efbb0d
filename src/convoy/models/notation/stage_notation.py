"""Notation of residual stages, in which RegNet and EfficientNet can be written. Imports no torch.

A stage is a text such as ``INVERTED5-40/2 x2 e6 se0.25``: two inverted bottlenecks of 5x5 windows and 40 filters, the
first with stride 2.

=============  ============================================================================================
``BASIC``      two convolutions
``BOTTLENECK`` 1x1, windowed and 1x1 convolution; the first two have the filters divided by ``e``
``INVERTED``   1x1, depthwise and 1x1 convolution without activation; the first two have ``e`` times the input
``x2``         two blocks
``e6``         expansion of INVERTED, or reduction of BOTTLENECK; 1 by default
``g8``         8 channels per group in the windowed convolution of BOTTLENECK
``se0.25``     squeeze-and-excitation with a quarter of the block's input channels
=============  ============================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convoy.config.faults import Fault, UserError, did_you_mean

KINDS = ("BASIC", "BOTTLENECK", "INVERTED")

_HEAD = re.compile(r"([A-Z]+)([1-9]\d*)-([1-9]\d*)(?:/([12]))?")
_WORDS = {
    "blocks": re.compile(r"x([1-9]\d*)"),
    "expansion": re.compile(r"e([1-9]\d*)"),
    "group_width": re.compile(r"g([1-9]\d*)"),
    "squeeze": re.compile(r"se(0?\.\d+)"),
}
_EXAMPLE = "write a stage such as INVERTED3-24/2 x2 e6 se0.25 (kind, window, filters, stride)"


@dataclass(frozen=True)
class Stage:
    """Blocks with the same settings, of which the first may halve height and width.

    Attributes:
        kind: one of `KINDS`.
        window: side of the window.
        filters: channels of the output.
        stride: of the first block.
        blocks: number of blocks.
        expansion: factor between the channels inside and outside a block.
        group_width: channels per group; 0 for one group.
        squeeze: channels of squeeze-and-excitation, relative to the block's input; 0 for none.
    """

    kind: str
    window: int
    filters: int
    stride: int = 1
    blocks: int = 1
    expansion: int = 1
    group_width: int = 0
    squeeze: float = 0.0

    def text(self) -> str:
        """Return the stage in the notation."""
        stride = f"/{self.stride}" if self.stride > 1 else ""
        words = [
            f"x{self.blocks}" if self.blocks > 1 else "",
            f"e{self.expansion}" if self.expansion > 1 else "",
            f"g{self.group_width}" if self.group_width else "",
            f"se{self.squeeze:g}" if self.squeeze else "",
        ]
        return " ".join([f"{self.kind}{self.window}-{self.filters}{stride}", *filter(None, words)])


def parse_stage(text: Any, key: str) -> Stage:
    """Return a stage from its text.

    Raises:
        UserError: the text is not in the notation.
    """
    head, *words = str(text).split() or [""]
    match = _HEAD.fullmatch(head)
    if not match:
        raise UserError(Fault(key, "is not a stage", _EXAMPLE, str(text)))
    kind, window, filters, stride = match.groups()
    if kind not in KINDS:
        near = did_you_mean(kind, KINDS, f"choose from {', '.join(KINDS)}")
        raise UserError(Fault(key, f"no such stage as {kind}", near, str(text)))
    if int(window) % 2 == 0:
        rule = "no padding keeps the spatial size with an even window"
        raise UserError(Fault(key, rule, "write an odd window", str(text)))
    found: dict[str, Any] = {}
    for word in words:
        name = next((name for name, pattern in _WORDS.items() if pattern.fullmatch(word)), None)
        if name is None or name in found:
            rule = f"has no meaning for {word!r}" if name is None else f"has two values for {name}"
            raise UserError(Fault(key, rule, "write words such as x2 e6 g8 se0.25", str(text)))
        number = _WORDS[name].fullmatch(word)
        assert number is not None
        found[name] = float(number[1]) if name == "squeeze" else int(number[1])
    stage = Stage(kind, int(window), int(filters), int(stride or 1), **found)
    if rule := _misfit(stage):
        raise UserError(Fault(key, rule, "remove the word or change its number", str(text)))
    return stage


def _misfit(stage: Stage) -> str:
    """Return why the words of a stage don't fit its kind; empty if they fit."""
    if stage.kind == "BASIC" and stage.expansion > 1:
        return "a BASIC block has no expansion"
    if stage.group_width and stage.kind != "BOTTLENECK":
        return f"{stage.kind} has no groups of a given width"
    inner = stage.filters // stage.expansion
    if stage.kind == "BOTTLENECK" and (not inner or inner % (stage.group_width or 1)):
        return f"groups of {stage.group_width or 1} don't divide the {inner} filters inside"
    return ""


def parse_stages(texts: Any) -> tuple[Stage, ...]:
    """Return the stages of a network.

    Raises:
        UserError: a text is not in the notation; all such texts are reported.
    """
    if not isinstance(texts, Sequence) or isinstance(texts, str) or not texts:
        raise UserError(Fault("model.stages", "must be a list of stages", _EXAMPLE))
    stages: list[Stage] = []
    faults: list[Fault] = []
    for index, text in enumerate(texts):
        try:
            stages.append(parse_stage(text, f"model.stages[{index}]"))
        except UserError as error:
            faults += error.faults
    if faults:
        raise UserError(*faults)
    return tuple(stages)
